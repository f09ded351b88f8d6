package peer

// Revisits is how often a peer that ended its connection is looked for.
var Revisits = len(revisits)
