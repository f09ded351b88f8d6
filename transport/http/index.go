package http

import (
	"crypto/hmac"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// indexHeader carries a mark: the index that an answer reflects, in the shape that
// clients of Vault take apart and merge (a client that reads its own writes keeps
// the highest that it has seen, and sends it along):
//
//	base64( "v1:" cluster ":" index ":" index ":" hex( HMAC-SHA256 of what is before ) )
//
// The index stands twice because theirs has one part for a local log and one for a
// replicated one; here all of the log is replicated. The hash lets a node tell what
// its cluster has made from anything else, so that nobody makes it wait for an
// index that there will never be.
const indexHeader = "X-Vault-Index"

// mark is the text for an index; "" if there is none, or the node was sealed since.
func (h *handler) mark(index uint64) string {
	cluster := h.node.ClusterID()
	if index == 0 || cluster == "" {
		return ""
	}
	state := fmt.Sprintf("v1:%s:%d:%d", cluster, index, index)
	hash, err := h.node.Vouch(state)
	if err != nil {
		return ""
	}
	return base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%s:%x", state, hash))
}

// errForeignMark is the refusal of a mark that is not this cluster's.
var errForeignMark = bad("the header " + indexHeader + " is not one that this cluster made")

// highest is the highest index in the values of a header: a client may send all
// the marks that it knows, each in a header of its own, or with commas between.
func (h *handler) highest(values []string) (index uint64, err error) {
	for _, value := range values {
		for text := range strings.SplitSeq(value, ",") {
			if text = strings.TrimSpace(text); text == "" {
				continue
			}
			at, err := h.readMark(text)
			if err != nil {
				return 0, err
			}
			index = max(index, at)
		}
	}
	return index, nil
}

// readMark undoes mark.
func (h *handler) readMark(text string) (uint64, error) {
	raw, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return 0, errForeignMark
	}
	end := strings.LastIndexByte(string(raw), ':')
	if end < 0 {
		return 0, errForeignMark
	}
	state := string(raw[:end])
	sent, err := hex.DecodeString(string(raw[end+1:]))
	if err != nil {
		return 0, errForeignMark
	}
	hash, err := h.node.Vouch(state)
	if err != nil {
		return 0, err
	}
	// What the hash vouches for, a node has spelled.
	parts := strings.Split(state, ":")
	if !hmac.Equal(hash, sent) || len(parts) != 4 {
		return 0, errForeignMark
	}
	index, err := strconv.ParseUint(parts[3], 10, 64)
	if err != nil {
		return 0, errForeignMark
	}
	return index, nil
}

// toActive tells whether a client wants its request to go to the active node, at
// once or rather than be refused for an index that this one has not. Any node can
// answer like it, with a quorum's word. Who says first that he would wait a while, and
// has his request forwarded then, waits for nothing here.
func toActive(header http.Header) bool {
	return header.Get("X-Vault-Forward") == "active-node" || slices.Contains(header.Values("X-Vault-Inconsistent"), "forward-active-node")
}
