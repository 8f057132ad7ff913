package relocate_test

import (
	"fmt"

	"github.com/nixproot/nix-hydra-buildpack/closure/nar"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

func Example() {
	layout, err := relocate.NewLayout("/layers/nixproot_nix-hydra/view")
	if err != nil {
		fmt.Println(err)
		return
	}
	app := storepath.Path("/nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-app-1.0")
	text := "exec " + string(app) + "/bin/app\n"
	out := &events{}
	stage := layout.Rewrite(app, nil, out)
	for _, step := range []func() error{
		func() error { return stage.Entry(&nar.Entry{Kind: nar.Regular, Size: int64(len(text))}) },
		func() error { _, err := stage.Write([]byte(text)); return err },
		stage.Close,
	} {
		if err := step(); err != nil {
			fmt.Println(err)
			return
		}
	}
	fmt.Print(string(out.files[0].contents))
	fmt.Println(stage.Report().References, stage.Report().Relocatable())
	// Output:
	// exec /layers/nixproot_nix-hydra/view/00bgd045z0d-app-1.0/bin/app
	// 1 true
}
