# A small stand-in for nixpkgs, with the same names for what is in it: its programs are Debian's, repackaged by real
# builds into store paths that refer to each other. Only evaluated where a binary cache has its outputs.
{ system ? builtins.currentSystem, localSystem ? { inherit system; }, config ? { }, overlays ? [ ], ... }:
let
  universe = builtins.fromJSON (builtins.readFile ./universe.json);
  lib = import ./lib.nix;
  debian = import ./debian.nix { inherit universe lib; };
  base = self: {
    inherit lib system config;
    pkgs = self;
    callPackage = lib.callPackageWith self;
    path = ./.;
    hostPlatform = self.stdenv.hostPlatform;
  }
  // debian.packages
  // import ./build.nix { inherit lib debian system universe; pkgs = self; }
  // import ./programs.nix { inherit lib debian; pkgs = self; };
  extend = pkgs: overlay: self: let super = pkgs self; in super // overlay self super;
in
lib.fix (builtins.foldl' extend base overlays)
