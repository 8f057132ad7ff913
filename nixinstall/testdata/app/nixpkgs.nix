# Stands where fetchFromGitHub stands in a real project: a derivation whose content is known beforehand. The test
# serves that content from a signed cache; nothing runs its builder.
derivation {
  name = "source";
  system = builtins.currentSystem;
  builder = "/bin/sh";
  args = [ "-c" "echo this must never be built >&2; exit 1" ];
  outputHashMode = "recursive";
  outputHashAlgo = "sha256";
  outputHash = "sha256-k4k65u2/D4L4sdKIFKVPUgywovPN94oK2rkk1Vmn3xk=";
}
