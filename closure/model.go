package closure

import (
	"cmp"
	"math"
	"math/bits"
	"slices"

	"github.com/nixproot/nix-hydra-buildpack/closure/storepath"
)

// model measures plans. A push changes one path and so rebuilds all that depend on it; every group that holds one of
// those is exported whole. What a push exports, divided by what it changed, is its amplification, both counted with
// pushBytes on top; a plan costs the sum of the amplifications of a change of each path in turn. Written the other
// way round, and that is what is computed: a group costs its bytes times the weight of its members' closures, where
// a path weighs 1 / (bytes that a change of it rebuilds + pushBytes).
//
// All arithmetic is on integers, so that no processor rounds another way. Weights are powers of two, so that paths of
// one weight can share words of a set and be counted at once.
type model struct {
	nodes []*Node // each after those that it refers to
	index map[storepath.Path]int
	size  []int64  // KiB, rounded up
	down  []bitset // the node's closure: everything that a change of which rebuilds it; a place per node, by weight
	words []int64  // the weight of each of the places in a word of such a set
}

const (
	// pushBytes is what any push costs besides its paths, in KiB: configuration, the view, round trips. It keeps
	// amplification from being about paths too small to matter.
	pushBytes = 1 << 10
	// weightScale is the weight of a path the change of which rebuilds nothing.
	weightScale = 1 << 16
	// originBoost says how much likelier it is that a path changes again than that another one changes.
	originBoost = 8
	// slack allows a merge below the number of layers allowed where it raises the mean amplification by no more
	// than one part in slack: a layer has its own cost, at each push and pull.
	slack = 5000
	// clusterSize bounds the quadratic part of the planning.
	clusterSize = 1500
)

// newModel measures plans of g. The paths of boosted are likelier to change than others.
func newModel(g *Graph, boosted map[storepath.Path]bool) *model {
	nodes, err := g.Topological()
	if err != nil {
		nodes = g.Sorted() // of use to no image, but a plan of it is as good as any
	}
	m := &model{nodes: nodes, index: make(map[storepath.Path]int, len(nodes))}
	for i, n := range nodes {
		m.index[n.Path] = i
		m.size = append(m.size, (max(n.NarSize, 0)+1023)>>10)
	}
	rebuilt := make([]int64, len(nodes))
	for i, closure := range m.closures(len(nodes), func(i int) int { return i }) {
		closure.each(func(j int) { rebuilt[j] += m.size[i] })
	}
	classes := make([][]int, bits.Len(weightScale*originBoost))
	for i, bytes := range rebuilt {
		weight := max(1, weightScale*pushBytes/(bytes+pushBytes))
		if boosted[nodes[i].Path] {
			weight *= originBoost
		}
		class := bits.Len64(uint64(weight)) - 1
		classes[class] = append(classes[class], i)
	}
	place := make([]int, len(nodes))
	for class, members := range classes {
		for n, i := range members {
			if n%64 == 0 {
				m.words = append(m.words, 1<<class)
			}
			place[i] = (len(m.words)-1)*64 + n%64
		}
	}
	m.down = m.closures(len(m.words)*64, func(i int) int { return place[i] })
	return m
}

// closures gives each node's closure as a set of up to n places.
func (m *model) closures(n int, place func(i int) int) []bitset {
	var closures []bitset
	for i, node := range m.nodes {
		closure := newBitset(n)
		closure.add(place(i))
		for _, ref := range node.References {
			if j, ok := m.index[ref]; ok && j < i {
				closure.union(closures[j])
			}
		}
		closures = append(closures, closure)
	}
	return closures
}

// cost is the summed amplification of groups, in units of weightScale * pushBytes.
func (m *model) cost(groups []Group) int64 {
	var sum int64
	for _, g := range groups {
		var size int64
		down := make(bitset, len(m.words))
		for _, path := range g.Paths {
			size += m.size[m.index[path]]
			down.union(m.down[m.index[path]])
		}
		sum += size * down.weight(m.words)
	}
	return sum
}

// cluster is a set of nodes on its way to be a group.
type cluster struct {
	members []int
	size    int64
	down    bitset
	weight  int64 // of down
	nearest int   // the cluster after this one that it costs least to join
	rise    int64 // and that cost
}

// cluster groups members into at most n groups, by joining again and again those two that raise the cost least.
// Groups come out in the order of how seldom they are hit, so that an image's first
// layers are those that stay.
func (m *model) cluster(members []int, n int) [][]int {
	weights := m.words
	clusters := make([]*cluster, 0, len(members))
	for _, i := range members {
		clusters = append(clusters, &cluster{
			members: []int{i}, size: m.size[i], down: m.down[i].clone(), weight: m.down[i].weight(weights),
		})
	}
	clusters = coarsen(clusters, max(clusterSize, n), weights)
	for i := range clusters {
		seek(clusters, i, weights)
	}
	free := int64(len(m.nodes)) * weightScale * pushBytes / slack
	for len(clusters) > 1 {
		a := 0
		for i := range clusters[:len(clusters)-1] {
			if clusters[i].rise < clusters[a].rise {
				a = i
			}
		}
		if len(clusters) <= n && clusters[a].rise > free {
			break
		}
		clusters = join(clusters, a, clusters[a].nearest, weights)
	}
	m.refine(clusters)
	slices.SortStableFunc(clusters, func(a, b *cluster) int {
		return cmp.Or(cmp.Compare(a.weight, b.weight), cmp.Compare(a.members[0], b.members[0]))
	})
	groups := make([][]int, 0, len(clusters))
	for _, c := range clusters {
		groups = append(groups, c.members)
	}
	return groups
}

// rise is what joining two clusters costs, if that is less than limit: each is exported whenever the other one is hit
// and it is not. Most pairs are told apart by their weights alone.
func rise(a, b *cluster, weights []int64, limit int64) int64 {
	if least := a.size*max(0, b.weight-a.weight) + b.size*max(0, a.weight-b.weight); least >= limit {
		return limit
	}
	common := a.down.common(b.down, weights)
	return min(limit, a.size*(b.weight-common)+b.size*(a.weight-common))
}

// seek finds the nearest of the clusters after the i-th.
func seek(clusters []*cluster, i int, weights []int64) {
	c := clusters[i]
	c.nearest, c.rise = i, math.MaxInt64
	for j := i + 1; j < len(clusters); j++ {
		if r := rise(c, clusters[j], weights, c.rise); r < c.rise {
			c.nearest, c.rise = j, r
		}
	}
}

// absorb makes b's members a's.
func (c *cluster) absorb(other *cluster, weights []int64) {
	c.members = append(c.members, other.members...)
	slices.Sort(c.members)
	c.size += other.size
	c.down.union(other.down)
	c.weight = c.down.weight(weights)
}

// join merges cluster b into a, a < b, and mends what others had found nearest.
func join(clusters []*cluster, a, b int, weights []int64) []*cluster {
	clusters[a].absorb(clusters[b], weights)
	clusters = slices.Delete(clusters, b, b+1)
	for i, c := range clusters[:min(b, len(clusters))] {
		switch {
		case i == a || c.nearest == a || c.nearest == b:
			seek(clusters, i, weights)
		case c.nearest > b:
			c.nearest--
		}
		if i < a && c.nearest != a {
			if r := rise(c, clusters[a], weights, c.rise); r < c.rise {
				c.nearest, c.rise = a, r
			}
		}
	}
	for _, c := range clusters[min(b, len(clusters)):] {
		c.nearest--
	}
	return clusters
}

// coarsen joins the smallest clusters with their neighbours in the order of weight until there are at most n, for
// closures so large that comparing all pairs would be felt.
func coarsen(clusters []*cluster, n int, weights []int64) []*cluster {
	if len(clusters) <= n {
		return clusters
	}
	slices.SortStableFunc(clusters, func(a, b *cluster) int { return cmp.Compare(b.size, a.size) })
	large, small := clusters[:n/2], clusters[n/2:]
	slices.SortStableFunc(small, func(a, b *cluster) int {
		return cmp.Or(cmp.Compare(a.weight, b.weight), cmp.Compare(a.members[0], b.members[0]))
	})
	each := (len(small) + n - n/2 - 1) / (n - n/2)
	coarse := slices.Clone(large)
	for chunk := range slices.Chunk(small, each) {
		for _, c := range chunk[1:] {
			chunk[0].absorb(c, weights)
		}
		coarse = append(coarse, chunk[0])
	}
	slices.SortFunc(coarse, func(a, b *cluster) int { return cmp.Compare(a.members[0], b.members[0]) })
	return coarse
}

// refine moves single nodes to other clusters as long as that lowers the cost, in a few rounds.
func (m *model) refine(clusters []*cluster) {
	const rounds = 8
	for range rounds {
		moved := false
		for a := range clusters {
			for _, i := range slices.Clone(clusters[a].members) {
				moved = m.improve(clusters, a, i) || moved
			}
		}
		if !moved {
			return
		}
	}
}

// improve moves node i from cluster a to where it costs least, and reports whether that is elsewhere.
func (m *model) improve(clusters []*cluster, a, i int) bool {
	from := clusters[a]
	if len(from.members) == 1 {
		return false
	}
	rest := &cluster{down: make(bitset, len(m.words)), size: from.size - m.size[i]}
	for _, j := range from.members {
		if j != i {
			rest.members = append(rest.members, j)
			rest.down.union(m.down[j])
		}
	}
	rest.weight = rest.down.weight(m.words)
	node := &cluster{members: []int{i}, size: m.size[i], down: m.down[i], weight: m.down[i].weight(m.words)}
	saved := from.size*from.weight - rest.size*rest.weight - node.size*node.weight
	best := -1
	for b, to := range clusters {
		if b == a {
			continue
		}
		if r := rise(to, node, m.words, saved); r < saved {
			best, saved = b, r
		}
	}
	if best < 0 {
		return false
	}
	clusters[a] = rest
	clusters[best].absorb(node, m.words)
	return true
}
