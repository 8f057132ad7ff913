package appdir

import (
	"testing"

	. "github.com/onsi/gomega"
)

// TestACopyBesideItsLayersIsTheBuildsOwn knows a copy that a platform has laid out beside its layers from somebody's checkout, by mount tables as
// the platforms have them.
func TestACopyBesideItsLayersIsTheBuildsOwn(t *testing.T) {
	const root = "30 1 0:45 / / rw - overlay overlay rw\n"
	for _, c := range []struct {
		name, mounts, app, layers string
		want                      bool
	}{
		{"pack", root +
			"40 30 8:1 /var/lib/docker/volumes/pack-app-x/_data /workspace rw - ext4 /dev/sda1 rw\n" +
			"41 30 8:1 /var/lib/docker/volumes/pack-layers-x/_data /layers rw - ext4 /dev/sda1 rw\n", "/workspace", "/layers", true},
		{"kpack", root +
			"40 30 8:1 /kubelet/pods/u/volumes/kubernetes.io~empty-dir/workspace-dir /workspace rw - xfs /dev/sda1 rw\n" +
			"41 30 8:1 /kubelet/pods/u/volumes/kubernetes.io~empty-dir/layers-dir /layers rw - xfs /dev/sda1 rw\n",
			"/workspace", "/layers", true},
		{"kpack with subPath", root +
			"40 30 8:1 /kubelet/pods/u/volumes/kubernetes.io~empty-dir/workspace-dir/sub/dir /workspace rw - xfs /dev/sda1 rw\n" +
			"41 30 8:1 /kubelet/pods/u/volumes/kubernetes.io~empty-dir/layers-dir /layers rw - xfs /dev/sda1 rw\n",
			"/workspace", "/layers", true},
		{"an emptyDir of another pod", root +
			"40 30 8:1 /kubelet/pods/v/volumes/kubernetes.io~empty-dir/workspace-dir/sub /workspace rw - xfs /dev/sda1 rw\n" +
			"41 30 8:1 /kubelet/pods/u/volumes/kubernetes.io~empty-dir/layers-dir /layers rw - xfs /dev/sda1 rw\n",
			"/workspace", "/layers", false},
		{"a container's own files", root, "/workspace", "/layers", true},
		{"two directories of one", root, "/tmp/x/app", "/tmp/x/l", true},
		{"docker run -v $PWD:/workspace", root + "40 30 8:1 /home/me/app /workspace rw - ext4 /dev/sda1 rw\n",
			"/workspace", "/layers", false},
		{"the same with a volume for the layers", root + "40 30 8:1 /home/me/app /workspace rw - ext4 /dev/sda1 rw\n" +
			"41 30 8:1 /var/lib/docker/volumes/layers/_data /layers rw - ext4 /dev/sda1 rw\n", "/workspace", "/layers", false},
		{"a CI's checkout", root + "40 30 8:1 /var/lib/docker/volumes/runner/_data /builds rw - ext4 /dev/sda1 rw\n",
			"/builds/group/app", "/layers", false},
		{"a machine of one's own", "30 1 8:1 / / rw - ext4 /dev/sda1 rw\n", "/home/me/app", "/tmp/layers", false},
		{"two disks", root + "40 30 8:1 / /workspace rw - ext4 /dev/sda1 rw\n41 30 8:2 / /layers rw - ext4 /dev/sdb1 rw\n",
			"/workspace", "/layers", false},
		{"one volume with a checkout in it, as Tekton has it", root + "40 30 8:1 / /workspace/source rw - ext4 /dev/sda1 rw\n" +
			"41 30 8:3 /pods/u/volumes/kubernetes.io~empty-dir/layers /layers rw - xfs /dev/sdb1 rw\n",
			"/workspace/source", "/layers", false},
		{"a directory of a volume beside that of the layers", root +
			"40 30 8:1 /var/lib/docker/volumes/app/_data /workspace rw - ext4 /dev/sda1 rw\n" +
			"41 30 8:1 /var/lib/docker/volumes/layers/_data /layers rw - ext4 /dev/sda1 rw\n", "/workspace/sub/app", "/layers", true},
		{"one volume for both, in different directories", root +
			"40 30 8:1 /var/lib/docker/volumes/all/_data /w rw - ext4 /dev/sda1 rw\n", "/w/a/app", "/w/layers", false},
		{"a container's own files and a volume beside them", "30 1 8:1 /var/lib/root / rw - ext4 /dev/sda1 rw\n" +
			"41 30 8:1 /var/lib/layers /layers rw - ext4 /dev/sda1 rw\n", "/home/me/app", "/layers", false},
		{"a volume and a container's own files beside it", "30 1 8:1 /var/lib/root / rw - ext4 /dev/sda1 rw\n" +
			"41 30 8:1 /var/lib/app /workspace rw - ext4 /dev/sda1 rw\n", "/workspace/sub/app", "/tmp/layers", false},
		{"a whole file system and a directory of it", root + "40 30 8:1 / /workspace rw - ext4 /dev/sda1 rw\n" +
			"41 30 8:1 /layers /layers rw - ext4 /dev/sda1 rw\n", "/workspace/home/me/app", "/layers", false},
		{"a directory of a file system and the whole of it", root + "40 30 8:1 /app /workspace rw - ext4 /dev/sda1 rw\n" +
			"41 30 8:1 / /layers rw - ext4 /dev/sda1 rw\n", "/workspace/sub/app", "/layers/deep/layers", false},
	} {
		NewWithT(t).Expect(parseMounts(c.mounts).beside(c.app, c.layers)).To(Equal(c.want), c.name)
	}
}

// TestMounts reads paths as the kernel writes them.
func TestMounts(t *testing.T) {
	mounts := parseMounts("30 1 0:45 / / rw - overlay o rw\n31 30 8:1 /a\\040b /w/c\\134d\\011e rw - ext4 x rw\nbroken\n" +
		"32 31 8:1 / /w/c\\134d\\011e/deeper rw - ext4 x rw\n33 30 8:1 / /ww rw - ext4 x rw\n")
	g := NewWithT(t)
	g.Expect(mounts).To(HaveLen(4))
	g.Expect(mounts[1].Root).To(Equal("/a b"))
	g.Expect(mounts.below("/w")).To(Equal([]string{"c\\d\te"}))
	g.Expect(mounts.below("/")).To(Equal([]string{"w/c\\d\te", "ww"}))
	g.Expect(mounts.below("/w/c\\d\te")).To(Equal([]string{"deeper"}))
	g.Expect(mountTable{{Point: "/w/a"}, {Point: "/w/a"}, {Point: "/w/ab"}}.below("/w")).To(Equal([]string{"a", "ab"}))
	g.Expect(mounts.has("/w/c\\d\te")).To(BeTrue())
	g.Expect(mounts.has("/w")).To(BeFalse())
	g.Expect(mounts.of("/ww/x").Point).To(Equal("/ww"))
	g.Expect(mounts.of("/w").Point).To(Equal("/"))
}
