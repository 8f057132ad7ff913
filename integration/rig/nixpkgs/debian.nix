# Debian's packages as derivations, one for each group in universe.json.
{ universe, lib }:
let
  fetch = name: { store, file, sha256, ... }: derivation {
    name = store;
    builder = "builtin:fetchurl";
    system = "builtin";
    url = "${universe.mirror}/${file}";
    urls = [ "${universe.mirror}/${file}" ];
    outputHash = sha256;
    outputHashAlgo = "sha256";
    outputHashMode = "flat";
    executable = false;
    unpack = false;
    preferLocalBuild = true;
  };
  debs = lib.mapAttrs fetch universe.debs;

  # The builder is put into the store by the rig; nobody else can make it.
  repack = derivation {
    name = "repack";
    builder = "/bin/sh";
    args = [ "-c" "echo 'repack is made by the test rig' >&2; exit 1" ];
    inherit (universe) system;
    outputHash = universe.repack;
    outputHashAlgo = "sha256";
    outputHashMode = "recursive";
  };

  tools = derivation {
    name = "repack-tools";
    inherit (universe) system;
    builder = "/bin/sh";
    args = [ "-euc" "for deb in $debs; do dpkg-deb -x $deb $out; done" ];
    PATH = "/usr/bin:/bin";
    debs = map (name: debs.${name}) universe.tools;
  };

  steps = import ./steps.nix { inherit universe groups; };

  build = id: { version, debs, inputs, propagate, post }@group:
    let
      drv = derivation {
        name = "${id}-${version}";
        inherit (universe) system;
        builder = repack;
        spec = builtins.toJSON {
          out = placeholder "out";
          debs = map (name: "${fetched.${name}}") group.debs;
          inputs = map (name: "${groups.${name}}") inputs;
          propagate = map (name: "${groups.${name}}") propagate;
          tools = "${tools}";
          inherit (universe) loader triplet site;
          libc = if id == "glibc" then "" else "${groups.glibc}";
          retarget = steps.retarget.${id} or { };
          links = steps.links.${id} or { };
          shell = lib.optionalString post "${groups.bash}/bin/bash";
          path = lib.optionalString post (lib.makeBinPath [ groups.coreutils ]);
          post = lib.optionalString post (steps.posts.${id} or (steps.post id group));
        };
      };
    in
    drv // {
      pname = id;
      inherit version group;
      passthru = { };
      meta = { mainProgram = steps.mainPrograms.${id} or id; outputsToInstall = [ "out" ]; };
    };
  fetched = debs;
  groups = lib.mapAttrs build universe.groups;
in
{
  inherit groups debs;
  inherit (universe) site triplet;
  packages = groups;
  # The group that has a Debian package.
  of = name: groups.${universe.owner.${name}};
}
