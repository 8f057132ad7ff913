# A large closure for benches: several languages with their libraries, servers and tools, and an app that is little
# itself. `change` makes the app's own path another one; `leaf` a dependency of a megabyte, and all that refers to it.
{ pkgs ? import ./. { }, change ? "", leaf ? "" }:
let
  inherit (pkgs) lib;
  python = pkgs.python3.withPackages (ps: with ps; [
    flask waitress gunicorn requests numpy pyyaml lxml cryptography sqlalchemy psycopg2 redis django pillow pandas scipy
    matplotlib markdown pygments sklearn sympy networkx h5py aiohttp
  ]);
  perl = pkgs.perl.withPackages (ps: with ps; [ lwp-protocol-https json json-xs dbi ]);
  tools = with pkgs; [
    bash coreutils findutils gnugrep gnused gawk gnutar gzip xz zstd bzip2 diffutils curl git busybox jq sqlite openssl
  ];
  servers = with pkgs; [ nginx lighttpd redis postgresql docker-registry wrk ];
  media = with pkgs; [ graphviz imagemagick ffmpeg gdb ];
  ruby = pkgs.ruby.withPackages (ps: with ps; [ rack sinatra puma webrick ]);
  languages = [ python perl ruby pkgs.nodejs pkgs.openjdk pkgs.erlang ];
  data = pkgs.runCommand "assets-1.0" { inherit leaf; } ''
    mkdir -p "$out/share/assets"
    echo "$leaf" >"$out/share/assets/version"
    for i in {1..6000}; do echo "$leaf $i: $((i * 48271 % 2147483647)) $((i * 16807 % 2147483647)) some text to fill a megabyte with, which is compressible: $i $i $i $i $i $i $i $i $i $i $i $i"; done \
      >"$out/share/assets/table"
  '';
  library = pkgs.runCommand "library-1.0" { } ''
    mkdir -p "$out/lib"
    echo "assets=${data}/share/assets" >"$out/lib/library.sh"
  '';
in
pkgs.runCommand "big-app-1.0" { meta.mainProgram = "big-app"; } ''
  mkdir -p "$out/bin" "$out/share"
  cat >"$out/bin/big-app" <<EOF
  #!${pkgs.bash}/bin/bash
  # ${change}
  . ${library}/lib/library.sh
  export PATH=${lib.makeBinPath (tools ++ servers ++ languages ++ media)}
  exec "\''${@:-bash}"
  EOF
  chmod +x "$out/bin/big-app"
''
