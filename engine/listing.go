package engine

// A ListRequest asks for the names in a directory.
type ListRequest struct {
	Path  string `path:"path" doc:"directory; empty: the root"`
	After string `json:"after" doc:"list what follows this name"`
	Limit Int    `json:"limit" doc:"list at most so many names; 0 or less: all"`
}

// A ListAnswer has names, sorted. A directory's name ends in a slash.
type ListAnswer struct {
	Keys []string `json:"keys"`
}

// Page lists a directory with list (Tx.Children or Tx.Records on it): all of it
// unless the request says otherwise, at most bound names. What is empty is a
// NotFoundError, as clients expect. A listing that is cut short without having
// been asked for says so in a warning.
func (r *ListRequest) Page(c *Call, bound int, list func(after string, limit int) (names []string, more bool, err error)) ([]string, error) {
	limit := bound
	if 0 < r.Limit && r.Limit < Int(bound) {
		limit = int(r.Limit)
	}
	names, more, err := list(r.After, limit)
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		return nil, &NotFoundError{What: "directory"}
	}
	if more && limit == bound {
		c.Warn("There are more than %d names; ask for those after the last one.", bound)
	}
	return names, nil
}
