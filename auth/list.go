package auth

import "github.com/conclave-secrets/conclave/engine"

// A ListRequest asks for the names in a directory; embed it in the request of a
// route. Without a limit they are all listed.
type ListRequest struct {
	After engine.Text `json:"after" doc:"list only what follows this name"`
	Limit engine.Int  `json:"limit" doc:"list at most so many; 0: all"`
}

// A ListResponse has the names, sorted.
type ListResponse struct {
	Keys []string `json:"keys" doc:"names, sorted"`
}

// pageSize is how many names are asked of a transaction at a time. For each page it
// looks at every name in the directory, so there should be one in most.
const pageSize = 1 << 16

// List lists the records in a directory. An empty list is an
// engine.NotFoundError, as clients expect.
func List(tx engine.Tx, dir engine.Path, q ListRequest, what string) (*ListResponse, error) {
	if q.Limit < 0 {
		return nil, &engine.InvalidError{Why: "the field \"limit\" is negative"}
	}
	keys := []string{}
	for after := string(q.After); ; {
		size := pageSize
		if q.Limit > 0 {
			size = min(size, int(q.Limit)-len(keys))
		}
		names, more, err := tx.Records(dir, after, size)
		if err != nil {
			return nil, err
		}
		keys = append(keys, names...)
		if !more || len(names) == 0 || q.Limit > 0 && len(keys) >= int(q.Limit) {
			break
		}
		after = names[len(names)-1]
	}
	if len(keys) == 0 {
		return nil, &engine.NotFoundError{What: what}
	}
	return &ListResponse{keys}, nil
}
