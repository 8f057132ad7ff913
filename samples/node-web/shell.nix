# Self-contained, as Hydra wants it: nixpkgs is pinned by its contents, so that every machine gets the same outputs.
let
  pin = builtins.fromJSON (builtins.readFile ./nixpkgs.json);
  fetchFromGitHub = { owner, repo, rev, sha256 }: builtins.fetchTarball {
    url = "https://github.com/${owner}/${repo}/archive/${rev}.tar.gz";
    inherit sha256;
  };
in
{ nixpkgs ? import (fetchFromGitHub pin) { config.allowUnfree = true; } }:
let
  inherit (nixpkgs) pkgs;
in
pkgs.callPackage ./. { }
