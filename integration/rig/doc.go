// Package rig makes real parts for tests, benches and scripts on any Debian or Ubuntu machine with Go, as root or as a
// user: Debian packages, a runnable Nix, a Nix release tarball, stores with real derivations, signed binary caches,
// base images, pack and the lifecycle. Nothing is installed on the machine: everything lives in one cache directory,
// $NIX_HYDRA_CACHE or nix-hydra-buildpack in the user's cache directory, is made once, and is safe to use from many
// processes at once. What is downloaded comes from Debian's mirrors and the Go module proxy, and is said.
//
// What is already kept stays as it is; remove the cache directory (or one of its directories) to start afresh.
//
// From packages to a signed cache:
//
//	r, err := rig.Open(rig.Options{})
//	pkgs, err := r.Nixpkgs(ctx)                          // a stand-in for nixpkgs; pkgs.Pin pins it
//	paths, err := pkgs.Build(ctx, "git", "nginx")        // real builds by real Nix, in pkgs.Store
//	paths, err = pkgs.Realise(ctx, "shell.nix", "-A", "x")
//	key, err := r.Key(ctx, "hydra.example.org-1")        // key.Public for trusted-public-keys
//	dir, err := r.Cache(ctx, rig.CacheOptions{Key: key, Compression: "xz"}, paths...)
//	server, err := rig.Serve(dir, rig.ServeOptions{Latency: 50 * time.Millisecond})
//	out, err := pkgs.Store.Run(ctx, "nix-store", "--dump", paths[0])
//
// A sample as Hydra builds it, and an image of it by pack or by the lifecycle alone:
//
//	source, err := pkgs.Sample(ctx, "python-web", t.TempDir())
//	built, err := pkgs.AsHydra(ctx, source, "source", "shell.nix")
//	dir, err = r.Cache(ctx, rig.CacheOptions{Key: key}, append(built.Paths, pkgs.Source)...)
//	err = r.Buildpack(ctx, dir, rig.BuildpackOptions{})
//	options := rig.BuildOptions{App: source, Buildpack: []string{dir}, Image: "x", Env: env}
//	pack, err := r.Pack(ctx)                             // wraps ErrNoDocker where no engine answers
//	result, err := pack.Build(ctx, options)
//	container, err := r.Start(ctx, "x", rig.ContainerOptions{Confinement: rig.Hostile, Env: env})
//	body, err := rig.Await(ctx, url, time.Minute, func() bool { return container.Running(ctx) })
//	lifecycle, err := r.Lifecycle(ctx, t.TempDir())      // without an engine
//	result, err = lifecycle.Build(ctx, options)
//	process, err := lifecycle.Start(ctx, "x", t.TempDir()+"/root", "web", env)
//
// The command cmd/rig gives some of it to scripts, and by hand.
package rig
