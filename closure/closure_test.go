package closure_test

import (
	"crypto/ed25519"
	"crypto/sha256"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/sclevine/spec"
	"github.com/sclevine/spec/report"

	"github.com/nixproot/nix-hydra-buildpack/closure"
	"github.com/nixproot/nix-hydra-buildpack/closure/narinfo"
	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

func TestClosure(t *testing.T) {
	suite := spec.New("closure", spec.Report(report.Terminal{}))
	suite("Graph", testGraph)
	suite("Plan", testPlan)
	suite("Substitute", testSubstitute)
	suite("Blocked", testBlocked)
	suite("Install", testInstall)
	suite("Places", testPlaces)
	suite("Golden", testGolden)
	suite("Kill", testKill)
	suite("Manifest", testManifest)
	suite.Run(t)
}

// pathOf makes a store path whose hash part follows from seed.
func pathOf(seed, name string) storepath.Path {
	sum := sha256.Sum256([]byte(seed + "/" + name))
	p, err := storepath.FromBase(storepath.Encode32(sum[:20]) + "-" + name)
	if err != nil {
		panic(err)
	}
	return p
}

// world is a set of packages that can be built over and over, each build of a package changing the store path of
// it and of all its dependents, as Nix does it.
type world struct {
	names   []string
	sizes   []int64
	needs   [][]int // each package's dependencies, all of lower number
	version []int
	rand    *rand.Rand
	self    bool
}

// newWorld is shaped as real closures are: sizes spread log-normally around 300 kB, a few libraries that nearly
// everything needs, most packages needed by one or two others, one application on top.
func newWorld(seed uint64, n int) *world {
	w := &world{rand: rand.New(rand.NewPCG(seed, 1)), self: true}
	for i := range n - 1 {
		w.add(int64(math.Exp(w.rand.NormFloat64()*1.9+math.Log(300e3))), w.pick(i))
	}
	w.names = append(w.names, "app-1.0")
	w.sizes = append(w.sizes, 400_000)
	w.version = append(w.version, 0)
	var tops []int
	needed := map[int]bool{}
	for _, needs := range w.needs {
		for _, j := range needs {
			needed[j] = true
		}
	}
	for i := range n - 1 {
		if !needed[i] {
			tops = append(tops, i)
		}
	}
	w.needs = append(w.needs, tops)
	return w
}

func (w *world) pick(i int) []int {
	var needs []int
	for range min(i, 1+w.rand.IntN(7)) {
		j := w.rand.IntN(i)
		if w.rand.IntN(3) > 0 { // the popular: the lower the number the likelier
			j = int(float64(i) * math.Pow(w.rand.Float64(), 3))
		}
		if !slices.Contains(needs, j) {
			needs = append(needs, j)
		}
	}
	return needs
}

func (w *world) add(size int64, needs []int) int {
	w.names = append(w.names, fmt.Sprintf("package%d-1.%d", len(w.names), w.rand.IntN(20)))
	w.sizes = append(w.sizes, size)
	w.needs = append(w.needs, needs)
	w.version = append(w.version, 0)
	return len(w.names) - 1
}

func (w *world) app() int { return slices.Index(w.names, "app-1.0") }

// graph is the application's closure as it stands.
func (w *world) graph() *closure.Graph {
	paths := make([]storepath.Path, len(w.names))
	var build func(i int) storepath.Path
	build = func(i int) storepath.Path {
		if paths[i] == "" {
			seed := fmt.Sprint(w.version[i])
			for _, j := range w.needs[i] {
				seed += string(build(j))
			}
			paths[i] = pathOf(seed, w.names[i])
		}
		return paths[i]
	}
	g := &closure.Graph{Roots: []storepath.Path{build(w.app())}, Nodes: map[storepath.Path]*closure.Node{}}
	var visit func(i int)
	visit = func(i int) {
		if g.Nodes[paths[i]] != nil {
			return
		}
		n := &closure.Node{Path: paths[i], NarHash: sha256.Sum256([]byte(paths[i])), NarSize: w.sizes[i]}
		if w.self && i%2 == 0 {
			n.References = append(n.References, paths[i])
		}
		g.Nodes[paths[i]] = n
		for _, j := range w.needs[i] {
			n.References = append(n.References, build(j))
			visit(j)
		}
		slices.Sort(n.References)
	}
	visit(w.app())
	return g
}

// signed is the same with a signature of each path.
func (w *world) signed() *closure.Graph {
	g := w.graph()
	for _, n := range g.Nodes {
		sign(n, keyName)
	}
	return g
}

// sign has a key of that name sign a node.
func sign(n *closure.Node, name string) {
	info := &narinfo.NarInfo{StorePath: n.Path, NarHash: n.NarHash, NarSize: n.NarSize, References: n.References}
	n.Signature = narinfo.Signature{Name: name, Data: ed25519.Sign(secretKey(name), []byte(info.Fingerprint()))}
}

// secretKey is the one key of that name.
func secretKey(name string) ed25519.PrivateKey {
	seed := sha256.Sum256([]byte(name))
	return ed25519.NewKeyFromSeed(seed[:])
}

// publicKey is what is trusted of it.
func publicKey(name string) narinfo.PublicKey {
	return narinfo.PublicKey{Name: name, Key: secretKey(name).Public().(ed25519.PublicKey)}
}

// change is what a new graph has that an old one has not, in bytes.
func change(before, after *closure.Graph) int64 {
	var sum int64
	for p, n := range after.Nodes {
		if before.Nodes[p] == nil {
			sum += n.NarSize
		}
	}
	return sum
}

// exported is what the layers weigh that have to be written again.
func exported(g *closure.Graph, before, after []closure.Group) int64 {
	var sum int64
	for _, group := range closure.Changed(before, after) {
		for _, p := range group.Paths {
			sum += g.Nodes[p].NarSize
		}
	}
	return sum
}
