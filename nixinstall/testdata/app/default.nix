{ mkDerivation, lib, greeting ? "hello" }:

mkDerivation {
  name = "app-1.0";
  pname = "app";
  version = "1.0";
  outputs = [ "out" "doc" ];
  src = ./.;
  text = "${./message.txt} ${lib.version}";
  inherit greeting;
  meta = {
    mainProgram = "serve";
    unfree = true;
    outputsToInstall = [ "out" "doc" ];
    license = { spdxId = "MIT"; };
    homepage = "https://example.org";
  };
}
