package narinfo_test

import (
	"fmt"
	"strings"

	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
)

// A narinfo is believed where a trusted key signed it.
func ExampleKeys_Verify() {
	keys, err := narinfo.ParseKeys("cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=")
	if err != nil {
		fmt.Println(err)
		return
	}
	info, err := narinfo.Parse(strings.NewReader(netTools), "")
	if err != nil {
		fmt.Println(err)
		return
	}
	sig, err := keys.Verify(info)
	fmt.Println(info.StorePath.Name(), info.NarSize, sig.Name, err)

	info.NarSize++
	_, err = keys.Verify(info)
	fmt.Println(err)
	// Output:
	// net-tools-1.60_p20170221182432 464152 cache.nixos.org-1 <nil>
	// verifying signature of /nix/store/00bgd045z0d4icpbc2yyz4gx48ak44la-net-tools-1.60_p20170221182432: the signature by cache.nixos.org-1 does not fit: the narinfo was altered, or another key of that name signed it
}
