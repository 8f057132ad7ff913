# Builders: stdenv, fetchers and the trivial ones.
{ lib, debian, pkgs, system, universe }:
let
  inherit (debian) of;
  initialPath = map of [ "coreutils" "findutils" "grep" "sed" "gawk" "tar" "gzip" "xz-utils" "bzip2" "diffutils" "bash" ];
  shell = "${of "bash"}/bin/bash";
  cpu = builtins.head (builtins.split "-" system);
  platform = {
    inherit system;
    isLinux = true; isDarwin = false; isx86_64 = cpu == "x86_64"; isAarch64 = cpu == "aarch64"; is64bit = true;
    config = "${cpu}-unknown-linux-gnu"; parsed.cpu.name = cpu;
  };

  mkDerivation = argument:
    let
      attrs = if lib.isFunction argument then lib.fix (self: argument self) else argument;
      name = attrs.name or "${attrs.pname}-${attrs.version}";
      drv = derivation (builtins.removeAttrs attrs [ "meta" "passthru" "pos" ] // {
        inherit name system;
        builder = attrs.builder or shell;
        args = attrs.args or [ "-e" ./setup.sh ];
        initialPath = map (pkg: "${pkg}") initialPath;
        stdenvShell = shell;
        buildInputs = attrs.buildInputs or [ ];
        nativeBuildInputs = attrs.nativeBuildInputs or [ ];
        propagatedBuildInputs = attrs.propagatedBuildInputs or [ ];
      });
    in
    drv // (attrs.passthru or { }) // {
      inherit name;
      pname = attrs.pname or (builtins.parseDrvName name).name;
      version = attrs.version or (builtins.parseDrvName name).version;
      meta = { outputsToInstall = [ (builtins.head (attrs.outputs or [ "out" ])) ]; } // (attrs.meta or { });
      passthru = attrs.passthru or { };
      overrideAttrs = f: mkDerivation (attrs // (if lib.isFunction f then
        (let once = f attrs; in if lib.isFunction once then f attrs attrs else once) else f));
    };
in
rec {
  stdenv = {
    inherit mkDerivation shell initialPath system;
    hostPlatform = platform; buildPlatform = platform; targetPlatform = platform;
    isLinux = true; isDarwin = false; cc = null;
  };
  stdenvNoCC = stdenv;
  runtimeShell = shell;

  runCommand = name: env: buildCommand: mkDerivation (env // { inherit name buildCommand; });
  runCommandLocal = runCommand;
  runCommandNoCC = runCommand;
  writeTextFile = { name, text, executable ? false, destination ? "", meta ? { } }: mkDerivation {
    inherit name text meta;
    buildCommand = ''
      target=$out${destination}
      mkdir -p "$(dirname "$target")"
      printf %s "$text" >"$target"
      ${lib.optionalString executable ''chmod +x "$target"''}
    '';
  };
  writeText = name: text: writeTextFile { inherit name text; };
  writeScript = name: text: writeTextFile { inherit name text; executable = true; };
  writeScriptBin = name: text: writeTextFile {
    inherit name text; executable = true; destination = "/bin/${name}"; meta.mainProgram = name;
  };
  writeShellScript = name: text: writeScript name "#!${shell}\n${text}";
  writeShellScriptBin = name: text: writeScriptBin name "#!${shell}\n${text}";
  writeShellApplication = { name, text, runtimeInputs ? [ ], ... }: writeShellScriptBin name ''
    set -o errexit -o nounset -o pipefail
    ${lib.optionalString (runtimeInputs != [ ]) ''export PATH="${lib.makeBinPath runtimeInputs}:$PATH"''}
    ${text}
  '';
  symlinkJoin = { name, paths, postBuild ? "", meta ? { }, ... }: mkDerivation {
    inherit name meta;
    buildCommand = ''
      mkdir -p "$out"
      for path in ${toString paths}; do joinTree "$path" "$out"; done
      ${postBuild}
    '';
  };
  buildEnv = { name, paths, postBuild ? "", meta ? { }, ... }: symlinkJoin { inherit name paths postBuild meta; };
  linkFarm = name: entries: runCommand name { } (''
    mkdir -p "$out"
  '' + lib.concatMapStrings (entry: ''
    mkdir -p "$(dirname "$out/${entry.name}")"
    ln -s ${entry.path} "$out/${entry.name}"
  '') entries);
  makeWrapper = null;
  makeBinaryWrapper = null;

  # Sources that the rig puts into its store by their hash. Nobody else can build them, so elsewhere they come from a
  # binary cache or not at all.
  fixed = { name, mode, hash }: mkDerivation {
    inherit name;
    outputHash = hash;
    outputHashAlgo = if lib.hasPrefix "sha256-" hash then null else "sha256";
    outputHashMode = mode;
    buildCommand = ''
      echo "${name}: this source is put into the store by the test rig and cannot be fetched" >&2
      exit 1
    '';
  };
  fetchFromGitHub = { owner, repo, rev, sha256 ? hash, hash ? sha256, name ? "source", ... }:
    fixed { inherit name; mode = "recursive"; hash = sha256; } // { inherit owner repo rev; };
  fetchgit = { url, rev, sha256 ? hash, hash ? sha256, name ? "source", ... }:
    fixed { inherit name; mode = "recursive"; hash = sha256; } // { inherit url rev; };
  fetchurl = { url ? builtins.head urls, urls ? [ url ], sha256 ? hash, hash ? sha256, name ? baseNameOf url, ... }:
    fixed { inherit name; mode = "flat"; hash = sha256; } // { inherit url; };
  fetchzip = { url, sha256 ? hash, hash ? sha256, name ? "source", ... }:
    fixed { inherit name; mode = "recursive"; hash = sha256; } // { inherit url; };
}
