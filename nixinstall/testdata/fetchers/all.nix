let
  d = name: src: derivation { inherit name src; system = "x86_64-linux"; builder = "/bin/sh"; };
  flake = ref: (builtins.getFlake ref).packages.x86_64-linux.default;
in {
  getFlake = flake (toString ./.);
  getFlakeSub = flake (toString ./sub);
  getFlakePath = flake "path:${toString ./.}";
  getFlakeDir = flake "path:${toString ./.}?dir=sub";
  getFlakeImported = import ./default.nix;
  fetchTree = d "t" (fetchTree { type = "path"; path = ./sub; });
  fetchTreeRoot = d "t" (builtins.fetchTree { type = "path"; path = toString ./.; }).outPath;
  fetchTreeURL = d "t${toString (builtins.fetchTree "path:${toString ./sub}").lastModified}" (builtins.fetchTree "path:${toString ./sub}");
  fetchurl = d "u" (builtins.fetchurl "file://${toString ./data/f}");
  fetchTarball = d "ft" (fetchTarball "file://${toString ./data/t.tgz}");
  fetchTreeTarball = d "ft" (fetchTree { type = "tarball"; url = "file://${toString ./data/t.tgz}"; });
  path = d "p" (builtins.path { path = toString ./sub; name = "x"; });
  copied = d "c" (builtins.fetchTree { type = "path"; path = "${./sub}"; });
  filterSource = d "f" (builtins.filterSource (p: t: baseNameOf p != "flake.nix") ./.);
  text = d "s" (toString ./.);
}
