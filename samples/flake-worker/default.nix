{ stdenv, makeWrapper, python3 }:

stdenv.mkDerivation {
  pname = "queue";
  version = "1.0";
  src = ./queue;
  nativeBuildInputs = [ makeWrapper ];

  installPhase = ''
    mkdir -p "$out/bin" "$out/share/queue"
    cp *.py "$out/share/queue"
    for name in web worker; do
      makeWrapper ${python3}/bin/python3 "$out/bin/queue-$name" --add-flags "$out/share/queue/$name.py"
    done
  '';
}
