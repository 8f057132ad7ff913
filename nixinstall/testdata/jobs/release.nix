# A job set: nested, for several systems, with a function that has defaults and a job that does not evaluate.
{ system ? builtins.currentSystem, suffix ? "", ... }:
let
  mk = name: system: derivation { inherit name system; builder = "/bin/sh"; inherit suffix; };
in
{
  server = {
    x86_64-linux = mk "server" "x86_64-linux";
    aarch64-linux = mk "server" "aarch64-linux";
  };
  worker = { threads ? 4 }: mk "worker-${toString threads}" system;
  broken = throw "this job does not evaluate";
}
