{ stdenv, makeWrapper, nodejs }:

stdenv.mkDerivation {
  pname = "node-web";
  version = "1.0";
  src = ./.;
  nativeBuildInputs = [ makeWrapper ];

  installPhase = ''
    mkdir -p "$out/bin" "$out/share/node-web"
    cp server.mjs package.json "$out/share/node-web"
    makeWrapper ${nodejs}/bin/node "$out/bin/node-web" --add-flags "$out/share/node-web/server.mjs"
  '';

  meta.mainProgram = "node-web";
}
