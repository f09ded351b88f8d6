package fabric

import (
	"errors"
	"fmt"
	"os"
	"strings"
)

// ErrUnavailable: this machine, or this user, cannot have a network of its own.
var ErrUnavailable = errors.New("no network of its own")

// Available returns nil when a Fabric can be made here; otherwise an error that
// wraps ErrUnavailable and names all that is missing and what to do.
func Available() error {
	var missing []string
	if os.Geteuid() != 0 {
		missing = append(missing, "network namespaces need root: run it as root, or in a container with --cap-add NET_ADMIN --cap-add SYS_ADMIN")
	}
	switch f, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0); {
	case errors.Is(err, os.ErrNotExist):
		missing = append(missing, "there is no /dev/net/tun: load the module (modprobe tun), or give the container --device /dev/net/tun")
	case err != nil:
		missing = append(missing, fmt.Sprintf("/dev/net/tun cannot be opened: %v", err))
	default:
		if err := f.Close(); err != nil {
			missing = append(missing, err.Error())
		}
	}
	if missing == nil {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrUnavailable, strings.Join(missing, "; "))
}
