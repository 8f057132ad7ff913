package nixproot

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	. "github.com/onsi/gomega"
	"github.com/sclevine/spec"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/relocate"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

func TestMachine(t *testing.T) { spec.Run(t, "machine", testMachine) }

func testMachine(t *testing.T, _ spec.G, it spec.S) {
	const (
		app  = storepath.Path("/nix/store/00000000000000000000000000000000-app")
		bash = storepath.Path("/nix/store/11111111111111111111111111111111-bash")
	)
	var layers string
	it.Before(func() {
		RegisterTestingT(t)
		layers = t.TempDir()
	})
	program := func(m elf.Machine, order binary.AppendByteOrder) string {
		data := byte(elf.ELFDATA2LSB)
		if order == binary.BigEndian {
			data = byte(elf.ELFDATA2MSB)
		}
		head := append([]byte(elf.ELFMAG), byte(elf.ELFCLASS64), data, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0)
		head = order.AppendUint16(order.AppendUint16(head, uint16(elf.ET_DYN)), uint16(m))
		return string(head) + "and more"
	}
	var (
		amd64 = program(elf.EM_X86_64, binary.LittleEndian)
		arm64 = program(elf.EM_AARCH64, binary.LittleEndian)
		s390x = program(elf.EM_S390, binary.BigEndian)

		armv7l = program(elf.EM_ARM, binary.LittleEndian)
		darwin = "\xcf\xfa\xed\xfe\x0c\x00\x00\x01"
	)
	// unpacked writes the files of store paths, and gives them as just unpacked.
	unpacked := func(files map[storepath.Path]map[string]string) *closure.Result {
		Expect(os.RemoveAll(layers)).To(Succeed())
		group := closure.Group{Layer: "closure-00"}
		for p, texts := range files {
			group.Paths = append(group.Paths, p)
			for name, text := range texts {
				file := filepath.Join(layers, group.Layer, p.Base(), name)
				Expect(os.MkdirAll(filepath.Dir(file), 0o755)).To(Succeed())
				Expect(os.WriteFile(file, []byte(text), 0o755)).To(Succeed())
			}
		}
		return &closure.Result{Changed: []closure.Group{group}}
	}
	check := func(result *closure.Result, system string) error {
		return checkMachine(result, layers, []storepath.Path{app}, system)
	}

	it("refuses a path whose programs are for another machine, with both names", func() {
		result := unpacked(map[storepath.Path]map[string]string{app: {"bin/serve": amd64, "bin/run": "#!/bin/sh\n"}})
		Expect(check(result, "x86_64-linux")).To(Succeed())
		err := check(result, "aarch64-linux")
		Expect(err).To(MatchError("checking programs: " + app.String() +
			"/bin/serve is for x86_64-linux, and the image is for aarch64-linux"))
		Expect(explain(err)).To(MatchError(ContainSubstring("add it to the systems of the jobset")))
		of := func(name string) string { return "#!" + bash.String() + "/share/" + name + "\n" }
		scripts := map[string]string{"share/1": of("2"), "share/2": of("3"), "share/3": of("4"), "share/4": of("5"), "share/5": of("6"), "share/6": amd64}
		for first, refused := range map[string]bool{"2": true, "1": false} { // the kernel runs no more of each other
			chain := unpacked(map[storepath.Path]map[string]string{app: {"bin/serve": of(first)}, bash: scripts})
			Expect(check(chain, "aarch64-linux") != nil).To(Equal(refused), "from %s", first)
		}
		for links, refused := range map[int]bool{40: true, 41: false} {
			chain := unpacked(map[storepath.Path]map[string]string{app: {"lib/0": amd64}})
			dir := filepath.Join(layers, "closure-00", app.Base())
			Expect(os.Mkdir(filepath.Join(dir, "bin"), 0o755)).To(Succeed())
			for i := range links - 1 {
				Expect(os.Symlink(fmt.Sprint(i), filepath.Join(dir, "lib", fmt.Sprint(i+1)))).To(Succeed())
			}
			Expect(os.Symlink(fmt.Sprintf("../lib/%d", links-1), filepath.Join(dir, "bin/serve"))).To(Succeed())
			Expect(check(chain, "aarch64-linux") != nil).To(Equal(refused), "%d links", links)
		}
		result = unpacked(map[storepath.Path]map[string]string{app: {"bin/serve": amd64, "bin/run": "#!/bin/sh\n"}})
		result.Reused.Paths = 3
		Expect(check(result, "aarch64-linux")).To(HaveOccurred())
	})

	it("looks at what a script's closure has, unless that was looked at before", func() {
		result := unpacked(map[storepath.Path]map[string]string{app: {"bin/run": "#!/bin/sh\n"}, bash: {"bin/bash": s390x}})
		var wrong *machineError
		Expect(errors.As(check(result, "x86_64-linux"), &wrong)).To(BeTrue())
		Expect(wrong.Machine).To(Equal("s390x-linux"))
		result.Reused.Paths = 3
		Expect(check(result, "x86_64-linux")).To(Succeed())
	})

	it("takes a script that looks after a guest again, when its interpreter stays in the previous image", func() {
		result := unpacked(map[storepath.Path]map[string]string{
			app: {"bin/run": "#!" + string(bash) + "/bin/bash\n", "libexec/agent": amd64}})
		result.Reused.Paths = 1
		Expect(check(result, "aarch64-linux")).To(MatchError(ContainSubstring("libexec/agent is for x86_64-linux")))
		result.Groups = []closure.Group{{Layer: "closure-01", Paths: []storepath.Path{bash}}, result.Changed[0]}
		Expect(check(result, "aarch64-linux")).To(Succeed())
	})

	it("says nothing of a program for another machine beside ours, of data, and of a 32-bit program", func() {
		Expect(check(unpacked(map[storepath.Path]map[string]string{
			app: {"bin/serve": arm64, "bin/firmware": s390x, "share/x": amd64}, bash: {"bin/short": "\x7fELF"},
		}), "aarch64-linux")).To(Succeed())
		Expect(check(unpacked(map[storepath.Path]map[string]string{app: {"bin/serve": "text", "data": "x"}}),
			"aarch64-linux")).To(Succeed())
		Expect(check(unpacked(map[storepath.Path]map[string]string{
			app: {"bin/serve": program(elf.EM_386, binary.LittleEndian)}}), "x86_64-linux")).To(Succeed())
	})

	const (
		libc   = storepath.Path("/nix/store/22222222222222222222222222222222-libc")
		qemu   = storepath.Path("/nix/store/33333333333333333333333333333333-qemu")
		second = storepath.Path("/nix/store/44444444444444444444444444444444-second")
	)
	freebsd := []byte(amd64)
	freebsd[elf.EI_OSABI] = byte(elf.ELFOSABI_FREEBSD)
	byBash, byFile := "#!"+string(bash)+"/bin/bash -e\n", "\x00file by itself\x00"
	type tree map[string]string
	for name, c := range sorted(map[string]struct {
		closure map[storepath.Path]tree
		roots   []storepath.Path
		foreign string // and its machine, "" where all is well
	}{
		"a static program": {map[storepath.Path]tree{app: {"bin/app": amd64}}, nil, app.String() + "/bin/app is for x86_64-linux"},
		"a 32-bit one":     {map[storepath.Path]tree{app: {"bin/app": program(elf.EM_386, binary.LittleEndian)}}, nil, "is for i686-linux"},
		"a 32-bit one, which not each machine runs": {map[storepath.Path]tree{app: {"bin/app": armv7l}}, nil, "is for armv7l-linux"},
		"a 32-bit one beside ours":                  {map[storepath.Path]tree{app: {"bin/app": arm64, "libexec/old": armv7l}}, nil, ""},
		"RISC-V":                                    {map[storepath.Path]tree{app: {"bin/app": program(elf.EM_RISCV, binary.LittleEndian)}}, nil, "is for riscv64-linux"},
		"a machine that Nix has no name for":        {map[storepath.Path]tree{app: {"bin/app": program(elf.EM_SPARCV9, binary.BigEndian)}}, nil, "is for SPARCV9"},
		"the same machine the other way round":      {map[storepath.Path]tree{app: {"bin/app": program(elf.EM_AARCH64, binary.BigEndian)}}, nil, "is for aarch64_be-linux"},
		"another system":                            {map[storepath.Path]tree{app: {"bin/app": string(freebsd)}}, nil, "is for x86_64-freebsd"},
		"Darwin, on the same machine":               {map[storepath.Path]tree{app: {"bin/app": darwin}}, nil, "is for aarch64-darwin"},
		"Darwin, on several":                        {map[storepath.Path]tree{app: {"bin/app": "\xca\xfe\xba\xbe\x00\x00\x00\x02"}}, nil, "is for darwin"},
		"a Java class":                              {map[storepath.Path]tree{app: {"bin/App.class": "\xca\xfe\xba\xbe\x00\x00\x00\x41"}}, nil, ""},
		"a program for Windows":                     {map[storepath.Path]tree{app: {"bin/app.exe": "MZ\x90\x00", "bin/app": byBash}, bash: {"bin/bash": arm64}}, nil, ""},
		"a script and its interpreter": {map[storepath.Path]tree{app: {"bin/app": byBash}, bash: {"bin/bash": amd64}}, nil,
			app.String() + "/bin/app, by " + bash.String() + "/bin/bash, is for x86_64-linux"},
		"a script with another's interpreter, in a closure of ours": {
			map[storepath.Path]tree{app: {"bin/app": byBash}, bash: {"bin/bash": amd64}, libc: {"bin/ldd": arm64}}, nil,
			app.String() + "/bin/app, by " + bash.String() + "/bin/bash, is for"},
		"a link to a program, in a closure of ours": {
			map[storepath.Path]tree{app: {"bin/app": "-> " + string(qemu) + "/bin/q"}, qemu: {"bin/q": amd64}, libc: {"bin/ldd": arm64}}, nil,
			app.String() + "/bin/app, by " + qemu.String() + "/bin/q, is for"},
		"a link to ours beside one to a guest's": {
			map[storepath.Path]tree{app: {"bin/app": "-> " + string(libc) + "/bin/ldd", "bin/q": "-> " + string(qemu) + "/bin/q"},
				qemu: {"bin/q": amd64}, libc: {"bin/ldd": arm64}}, nil, ""},
		"a link to a link of another path, as of an environment of environments": {
			map[storepath.Path]tree{app: {"bin/app": "-> " + string(qemu) + "/bin/q"}, qemu: {"bin/q": "-> " + string(second) + "/bin/s"},
				second: {"bin/s": "-> ../lib/s", "lib/s": amd64}, libc: {"bin/ldd": arm64}}, nil,
			app.String() + "/bin/app, by " + second.String() + "/lib/s, is for"},
		"a bin that is a link, as of an environment of one package": {
			map[storepath.Path]tree{app: {"bin": "-> " + string(qemu) + "/bin"}, qemu: {"bin": "-> " + string(second) + "/bin"},
				second: {"bin/s": amd64}, libc: {"bin/ldd": arm64}}, nil,
			app.String() + "/bin/s, by " + second.String() + "/bin/s, is for"},
		"a bin that is a link to ours beside a guest's": {
			map[storepath.Path]tree{app: {"bin": "-> " + string(libc) + "/bin", "libexec/agent": amd64}, libc: {"bin/ldd": arm64}}, nil, ""},
		"a link to a wrapper of another path": {
			map[storepath.Path]tree{app: {"bin/app": "-> " + string(qemu) + "/bin/q"}, qemu: {"bin/q": byBash, "bin/.q-wrapped": amd64},
				bash: {"bin/bash": arm64}}, nil, app.String() + "/bin/app, by " + qemu.String() + "/bin/.q-wrapped, is for"},
		"a path that is a link to another": {
			map[storepath.Path]tree{app: {byFile: "-> " + string(qemu)}, qemu: {"bin/q": amd64}, libc: {"bin/ldd": arm64}}, nil,
			app.String() + "/bin/q, by " + qemu.String() + "/bin/q, is for"},
		"links in a circle": {
			map[storepath.Path]tree{app: {"bin/app": "-> " + string(qemu) + "/bin/q"}, qemu: {"bin/q": "-> " + string(app) + "/bin/app"}}, nil, ""},
		"a link by its own place to a program elsewhere": {
			map[storepath.Path]tree{app: {"bin/app": "-> ../../../.." + string(qemu) + "/bin/q"}, qemu: {"bin/q": amd64}, libc: {"bin/ldd": arm64}}, nil,
			app.String() + "/bin/app, by " + qemu.String() + "/bin/q, is for"},
		"a link to a program in lib": {
			map[storepath.Path]tree{app: {"bin/app": "-> ../lib/app/app", "lib/app/app": amd64}, libc: {"bin/ldd": arm64}}, nil,
			app.String() + "/bin/app, by " + app.String() + "/lib/app/app, is for x86_64-linux"},
		"a link by its whole name to a script in lib": {
			map[storepath.Path]tree{app: {"bin/app": "-> " + string(app) + "/lib/app/cli.js", "lib/app/cli.js": byBash},
				bash: {"bin/bash": amd64}, libc: {"bin/ldd": arm64}}, nil, app.String() + "/bin/app, by " + bash.String() + "/bin/bash, is for"},
		"a link to a script that runs itself": {
			map[storepath.Path]tree{app: {"bin/app": "-> ../lib/app", "lib/app": "#!" + string(app) + "/lib/app\n"}}, nil, ""},
		"a link to a directory, and one that leads out": {
			map[storepath.Path]tree{app: {"bin/app": arm64, "bin/lib": "-> ../lib", "bin/out": "-> ../../../../../etc/passwd", "lib/x": amd64}}, nil, ""},
		"a link to ours in lib beside a guest's": {
			map[storepath.Path]tree{app: {"bin/app": "-> ../lib/app/app", "lib/app/app": arm64, "libexec/agent": amd64}}, nil, ""},
		"what npm packages bring for each machine": {
			map[storepath.Path]tree{app: {"bin/app": "-> ../lib/node_modules/app/cli.js", "lib/node_modules/app/cli.js": byBash,
				"lib/node_modules/app/prebuilds/linux-x64/x.node": amd64, "lib/node_modules/app/prebuilds/linux-arm/x.node": armv7l,
				"lib/node_modules/app/prebuilds/darwin-arm64/x.node": darwin, "share/app/helper": s390x}, bash: {"bin/bash": arm64}}, nil, ""},
		"addons for other machines and no program": {
			map[storepath.Path]tree{app: {"lib/node_modules/x/prebuilds/linux-x64/x.node": amd64, "share/x/helper": s390x}}, nil, ""},
		"a script that looks after a guest": {
			map[storepath.Path]tree{app: {"bin/run": byBash, "libexec/agent": amd64}, bash: {"bin/bash": arm64}}, nil, ""},
		"a wrapped program": {
			map[storepath.Path]tree{app: {"bin/app": byBash, "bin/.app-wrapped": amd64}, bash: {"bin/bash": arm64}}, nil, "/bin/.app-wrapped is for"},
		"an emulator with programs of guests": {
			map[storepath.Path]tree{app: {"bin/app": arm64}, qemu: {"bin/qemu": arm64, "libexec/init": amd64, "share/bios": amd64}}, nil, ""},
		"a boot loader's modules": {
			map[storepath.Path]tree{app: {"bin/install": arm64, "lib/grub/i386-pc/kernel.img": program(elf.EM_386, binary.LittleEndian)}}, nil, ""},
		"a dependency with nothing of ours": {map[storepath.Path]tree{app: {"bin/app": arm64}, qemu: {"bin/init": amd64}}, nil, ""},
		"a root of another machine's beside ours": {
			map[storepath.Path]tree{app: {"bin/app": arm64}, second: {"bin/second": amd64}}, []storepath.Path{app, second}, second.String() + "/bin/second is for"},
		"a file by itself": {map[storepath.Path]tree{app: {byFile: amd64}}, nil, app.String() + " is for x86_64-linux"},
		"a guest's file by itself, beside ours": {
			map[storepath.Path]tree{app: {"bin/app": arm64}, second: {byFile: amd64}}, []storepath.Path{app, second}, ""},
	}) {
		it("knows "+name, func() {
			for _, view := range []string{"", "/layers/nixproot_nix-hydra/view"} {
				group := closure.Group{Layer: "closure-00"}
				result := &closure.Result{}
				if view != "" {
					var err error
					result.View, err = relocate.NewView(view)
					Expect(err).NotTo(HaveOccurred())
				}
				Expect(os.RemoveAll(layers)).To(Succeed())
				renamed := func(text string) string {
					for p := range c.closure {
						text = strings.ReplaceAll(text, p.String(), filepath.Join("/somewhere", closure.BaseName(p, result.View)))
					}
					return text
				}
				for p, files := range c.closure {
					group.Paths = append(group.Paths, p)
					dir := filepath.Join(layers, group.Layer, closure.BaseName(p, result.View))
					for name, text := range files {
						file := filepath.Join(dir, name)
						if name == byFile {
							file = dir
						}
						Expect(os.MkdirAll(filepath.Dir(file), 0o755)).To(Succeed())
						if to, link := strings.CutPrefix(text, "-> "); link {
							Expect(os.Symlink(renamed(to), file)).To(Succeed())
							continue
						}
						Expect(os.WriteFile(file, []byte(renamed(text)), 0o755)).To(Succeed())
					}
				}
				result.Changed = []closure.Group{group}
				roots := c.roots
				if roots == nil {
					roots = []storepath.Path{app}
				}
				err := checkMachine(result, layers, roots, "aarch64-linux")
				if c.foreign == "" {
					Expect(err).NotTo(HaveOccurred())
					continue
				}
				Expect(err).To(MatchError(And(ContainSubstring(c.foreign), HaveSuffix("and the image is for aarch64-linux"))))
				advice := explain(err).Error()
				Expect(advice).To(ContainSubstring("name the store path that was built for aarch64-linux: have Hydra build it for that system too"))
				if strings.Contains(err.Error(), "is for x86_64-linux,") { // of the others there is no image
					Expect(advice).To(ContainSubstring("(add it to the systems of the jobset), or\n"))
					Expect(advice).To(ContainSubstring("build the image for x86_64-linux, with a builder and run image of that architecture"))
				} else {
					Expect(advice).To(And(HaveSuffix("(add it to the systems of the jobset)"), Not(ContainSubstring("build the image for"))))
				}
			}
		})
	}
}

// sorted are the cases of a table in the same order every time: a spec is known by its place among the others, so that in
// another order some would run twice, and as many not at all.
func sorted[V any](table map[string]V) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		for _, name := range slices.Sorted(maps.Keys(table)) {
			if !yield(name, table[name]) {
				return
			}
		}
	}
}
