package xz_test

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/xz"
)

// What xz makes of "hello, world".
const hello = "\xfd7zXZ\x00\x00\x04\xe6\xd6\xb4F\x02\x00!\x01\x16\x00\x00\x00t/\xe5\xa3\x01\x00\x0chello, world\n" +
	"\x00\x00\x00\x00{FZ\x81\xc9\x12\xb8\xea\x00\x01%\x0dq\x19\xc4\xb6\x1f\xb6\xf3}\x01\x00\x00\x00\x00\x04YZ"

func Example() {
	_, err := io.Copy(os.Stdout, xz.NewReader(strings.NewReader(hello), xz.Options{}))
	fmt.Println(err)

	// A file that wants more memory than it may have is refused.
	_, err = io.Copy(os.Stdout, xz.NewReader(strings.NewReader(hello), xz.Options{MaxWindow: 1 << 20}))
	var tooLarge *xz.WindowError
	fmt.Println(errors.As(err, &tooLarge), err)
	// Output:
	// hello, world
	// <nil>
	// true xz: the dictionary has 8388608 bytes, allowed are 1048576
}
