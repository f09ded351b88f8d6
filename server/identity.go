package server

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/conclave-secrets/conclave/storage/vfs"
)

// The files of a data directory.
const (
	identityFile = "identity.json"
	authorityPEM = "ca.pem" // for clients: what they must trust to talk to this node
	lockFile     = "lock"
	stateDir     = "state"
	raftDir      = "raft"
	snapshotDir  = "snapshots"
)

// identityFormat1 numbers the form of the identity file, and with it the
// layout of the data directory.
const identityFormat1 = 1

// identity is who this node is. It is born with the data directory and never
// reused (L13): a node that lost its data comes back as another one. It lies
// beside the barrier, not behind it, so that a sealed node can replicate.
type identity struct {
	Format  int    `json:"format"`
	NodeID  string `json:"node_id"`
	KeyPEM  []byte `json:"private_key"` // PKCS #8
	Cluster string `json:"cluster_id,omitempty"`

	// The rest is there once the node is a member.
	CertificatePEM []byte `json:"certificate,omitempty"`
	AuthorityPEM   []byte `json:"authority,omitempty"`
	GossipKey      []byte `json:"gossip_key,omitempty"`
	// Others are the nodes that were heard of last, to find the cluster by
	// after a restart.
	Others []otherNode `json:"others,omitempty"`
}

// otherNode is where another node was.
type otherNode struct {
	ID     string `json:"id"`
	Peer   string `json:"peer"`
	Gossip string `json:"gossip"`
}

// member tells whether the node belongs to a cluster.
func (i *identity) member() bool { return i.Cluster != "" }

// A DataDirError says what is wrong with a data directory and what to do.
type DataDirError struct {
	Dir     string
	Problem string
	Hint    string
}

func (e *DataDirError) Error() string { return fmt.Sprintf("data directory %s %s", e.Dir, e.Problem) }

// loadIdentity reads the identity of a data directory, or makes one for a
// directory that has none.
func loadIdentity(dir string) (*identity, error) {
	raw, err := os.ReadFile(filepath.Join(dir, identityFile))
	if errors.Is(err, fs.ErrNotExist) {
		return newIdentity(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("reading identity: %w", err)
	}
	var id identity
	if err := json.Unmarshal(raw, &id); err != nil {
		return nil, &DataDirError{dir, "has a damaged identity file", "restore identity.json from a backup, or remove the node from the cluster and join again with an empty directory"}
	}
	if id.Format > identityFormat1 {
		return nil, &DataDirError{dir, fmt.Sprintf("has format %d, and this version knows formats up to %d", id.Format, identityFormat1), "start it with the newer version that wrote it"}
	}
	if id.Format != identityFormat1 || id.NodeID == "" || len(id.KeyPEM) == 0 {
		return nil, &DataDirError{dir, "has an incomplete identity file", "restore identity.json from a backup, or start with an empty directory"}
	}
	return &id, nil
}

func newIdentity(dir string) (*identity, error) {
	for _, name := range []string{stateDir, raftDir, snapshotDir} {
		if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
			// Data without an identity: to be born again here would mean to
			// vote with a log that another identity acknowledged (L10).
			return nil, &DataDirError{dir, "holds data but no identity.json", "restore identity.json from a backup, or start with an empty directory"}
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making the node's key: %w", err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encoding the node's key: %w", err)
	}
	var name [6]byte
	if _, err := rand.Read(name[:]); err != nil {
		return nil, fmt.Errorf("drawing the node's id: %w", err)
	}
	id := &identity{Format: identityFormat1, NodeID: "n" + hex.EncodeToString(name[:]),
		KeyPEM: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})}
	return id, id.save(dir)
}

// save makes the identity durable, readable by nobody else: it holds a private key.
func (i *identity) save(dir string) error {
	raw, err := json.MarshalIndent(i, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding identity: %w", err)
	}
	if err := writePrivate(dir, identityFile, raw); err != nil {
		return fmt.Errorf("saving identity: %w", err)
	}
	return nil
}

// writePrivate replaces a file of dir, at once and durably, by one with mode
// 0600. It is not vfs.AtomicWrite, because Pebble's file systems know no modes.
func writePrivate(dir, name string, data []byte) error {
	path := filepath.Join(dir, name)
	f, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o600) // one that was there already keeps its mode otherwise
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	return vfs.SyncDir(vfs.Default, dir)
}

func (i *identity) key() (*ecdsa.PrivateKey, error) {
	block, _ := pem.Decode(i.KeyPEM)
	if block == nil {
		return nil, errors.New("reading the node's key: it is not PEM")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("reading the node's key: it does not parse")
	}
	key, ok := parsed.(*ecdsa.PrivateKey)
	if !ok {
		return nil, errors.New("reading the node's key: it is of an unexpected kind")
	}
	return key, nil
}
