# <nixpkgs> and arguments.
{ greeting ? "hello", nixpkgs ? import <nixpkgs> { config.allowUnfree = true; } }:

nixpkgs.callPackage ./. { inherit greeting; }
