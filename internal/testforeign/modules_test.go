package testforeign

import (
	"net/http"
	"testing"

	vault "github.com/hashicorp/vault/api"
	"github.com/hashicorp/vault/api/auth/approle"
	"github.com/hashicorp/vault/api/auth/userpass"
)

// The client's own modules for logging in: a machine with a wrapped secret id, and a
// person with a password.
func TestVaultOnlyLoginModules(t *testing.T) {
	h, ctx := newVaultHand(t), t.Context()
	name := unique(t)
	done(t, h.sys().EnableAuth(name+"-machines", "approle", ""))
	done(t, h.sys().EnableAuth(name+"-people", "userpass", ""))
	role := "auth/" + name + "-machines/role/web"
	need[*vault.Secret](t)(h.logical().Write(role, map[string]any{"token_policies": "default", "secret_id_num_uses": 1}))
	roleID := need[*vault.Secret](t)(h.logical().Read(role + "/role-id")).Data["role_id"].(string)
	h.SetWrapTTL("1m")
	wrapped := need[*vault.Secret](t)(h.logical().Write(role+"/secret-id", nil)).WrapInfo.Token
	h.SetWrapTTL("")
	machine := need[*approle.AppRoleAuth](t)(approle.NewAppRoleAuth(roleID, &approle.SecretID{FromString: wrapped},
		approle.WithMountPath(name+"-machines"), approle.WithWrappingToken()))
	nobody := h.as("").client()
	s := need[*vault.Secret](t)(nobody.Auth().Login(ctx, machine))
	if s.Auth.Metadata["role_name"] != "web" || nobody.Token() == "" {
		t.Errorf("logged in as %+v", s.Auth)
	}
	_, err := h.as("").client().Auth().Login(ctx, machine)
	denied(t, h, err, http.StatusBadRequest, "wrapping token is not valid or does not exist")

	need[*vault.Secret](t)(h.logical().Write("auth/"+name+"-people/users/ann", map[string]any{"password": "correct horse"}))
	person := func(password string) *userpass.UserpassAuth {
		return need[*userpass.UserpassAuth](t)(userpass.NewUserpassAuth("ann", &userpass.Password{FromString: password}, userpass.WithMountPath(name+"-people")))
	}
	s = need[*vault.Secret](t)(h.as("").client().Auth().Login(ctx, person("correct horse")))
	if s.Auth.Metadata["username"] != "ann" {
		t.Errorf("logged in as %+v", s.Auth)
	}
	_, err = h.as("").client().Auth().Login(ctx, person("wrong"))
	denied(t, h, err, http.StatusBadRequest, "invalid username or password")
}
