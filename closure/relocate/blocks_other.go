//go:build !amd64

package relocate

// vectors says that there are findBlock and findName for this processor.
const vectors = false

func findBlock(*byte, int) int                 { panic("no vectors") }
func findName(*byte, int, *byte, int, int) int { panic("no vectors") }
