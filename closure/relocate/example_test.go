package relocate_test

import (
	"fmt"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

func Example() {
	view, err := relocate.NewView("/layers/nixproot_nix-hydra/view")
	if err != nil {
		fmt.Println(err)
		return
	}
	app := storepath.Path("/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-app-1.0")
	text := "exec " + string(app) + "/bin/app\n"
	out := &events{}
	rewriter := view.Rewrite(app, nil, out)
	for _, step := range []func() error{
		func() error { return rewriter.Entry(&nar.Entry{Kind: nar.Regular, Size: int64(len(text))}) },
		func() error { _, err := rewriter.Write([]byte(text)); return err },
		rewriter.Close,
	} {
		if err := step(); err != nil {
			fmt.Println(err)
			return
		}
	}
	fmt.Print(string(out.files[0].contents))
	fmt.Println(rewriter.Report().References, rewriter.Report().Relocatable())
	// Output:
	// exec /layers/nixproot_nix-hydra/view/00bgd045z0d-app-1.0/bin/app
	// 1 true
}
