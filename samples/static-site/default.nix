{ stdenv, bash, lighttpd }:

stdenv.mkDerivation {
  pname = "static-site";
  version = "1.0";
  src = ./.;

  installPhase = ''
    mkdir -p "$out/bin" "$out/share"
    cp -r site "$out/share/static-site"

    cat >"$out/share/lighttpd.conf" <<EOF
    server.document-root = "$out/share/static-site"
    server.port = env.PORT
    server.upload-dirs = ( "/tmp" )
    index-file.names = ( "index.html" )
    mimetype.assign = ( ".html" => "text/html; charset=utf-8", ".css" => "text/css", "" => "application/octet-stream" )
    EOF

    cat >"$out/bin/serve-site" <<EOF
    #!${bash}/bin/bash
    export PORT=\''${1:-\''${PORT:-8080}}
    exec ${lighttpd}/bin/lighttpd -D -f $out/share/lighttpd.conf
    EOF
    chmod +x "$out/bin/serve-site"
  '';

  meta.mainProgram = "serve-site";
}
