package storepath_test

import (
	"crypto/sha256"
	"fmt"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

func ExampleParse() {
	p, err := storepath.Parse("/nix/store/xcp9cav49dmsjbwdjlmkjxj10gkpx553-hello-2.10")
	if err != nil {
		fmt.Println(err)
		return
	}
	name, version := storepath.ParseName(p.Name())
	fmt.Println(p.HashPart(), name, version)

	_, err = storepath.Parse("/nix/store/../../etc/passwd")
	fmt.Println(err)
	// Output:
	// xcp9cav49dmsjbwdjlmkjxj10gkpx553 hello 2.10
	// parsing store path "../../etc/passwd": want a 32-character hash, a dash and a name
}

func ExampleMake() {
	// builtins.toFile "greeting" "hello\n" makes this path.
	p, err := storepath.Make("text", sha256.Sum256([]byte("hello\n")), "greeting")
	fmt.Println(p, err)
	// Output: /nix/store/ybf7by4xvcgjhwilsg87rqz9di79bify-greeting <nil>
}
