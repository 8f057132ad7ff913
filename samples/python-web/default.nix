{ stdenv, makeWrapper, python3 }:

let
  python = python3.withPackages (ps: [ ps.flask ps.gunicorn ps.markdown ps.pygments ps.pyyaml ]);
in
stdenv.mkDerivation {
  pname = "python-web";
  version = "1.0";
  src = ./.;
  nativeBuildInputs = [ makeWrapper ];

  installPhase = ''
    mkdir -p "$out/bin" "$out/share/python-web"
    cp -r app.py notes "$out/share/python-web"
    makeWrapper ${python}/bin/gunicorn "$out/bin/python-web" --add-flags "--chdir $out/share/python-web app:app"
    makeWrapper ${python}/bin/python3 "$out/bin/list-notes" --add-flags "$out/share/python-web/app.py"
  '';

  meta.mainProgram = "python-web";
}
