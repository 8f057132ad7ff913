{ nixpkgs ? import (import ./nixpkgs.nix) { config.allowUnfree = true; } }:

let
  inherit (nixpkgs) pkgs;
in
pkgs.callPackage ./. { }
