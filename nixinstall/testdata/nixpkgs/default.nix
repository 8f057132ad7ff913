# The few parts of nixpkgs that the tests need, in nixpkgs' shape.
{ config ? { }, system ? builtins.currentSystem }:
let
  lib = import ./lib.nix;
  mkDerivation = args@{ name, meta ? { }, ... }:
    let
      drv = derivation (removeAttrs args [ "meta" ] // { inherit system; builder = "/bin/sh"; });
      checked =
        if (meta.unfree or false) && ! (config.allowUnfree or false)
        then throw "Package '${name}' has an unfree license, refusing to evaluate."
        else drv;
    in
    drv // {
      inherit (checked) outPath drvPath;
      meta = { outputsToInstall = [ (builtins.head (args.outputs or [ "out" ])) ]; } // meta;
      inherit lib;
    };
  callPackage = file: args:
    let f = import file; in f (builtins.intersectAttrs (builtins.functionArgs f) pkgs // args);
  pkgs = { inherit lib mkDerivation callPackage system pkgs; };
in
pkgs
