package gitfiles

// ParseIndex is the format that strangers write.
var ParseIndex = parseIndex
