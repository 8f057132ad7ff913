{ nixpkgs ? import (import ./nixpkgs.nix) { } }:

nixpkgs.callPackage ./. { }
