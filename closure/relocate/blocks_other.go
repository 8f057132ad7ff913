//go:build !amd64 || purego

package relocate

// vectors says that there are the functions below for this processor.
const vectors = false

func findBlock(*byte, int) int                 { panic("no vectors") }
func findName(*byte, int, *byte, int, int) int { panic("no vectors") }
func findText(*byte, int) int                  { panic("no vectors") }
