# A web shop with a large closure: an application of its own, the environments that it is put together from, and the
# programs and libraries below them.
{ pkgs ? import <nixpkgs> { }, release ? "1" }:
let
  inherit (pkgs) lib;
  python = pkgs.python3.withPackages (ps: with ps; [
    flask waitress gunicorn requests numpy pyyaml lxml cryptography sqlalchemy psycopg2 redis django pillow pandas scipy
    matplotlib markdown pygments scikit-learn sympy networkx h5py aiohttp
  ]);
  perl = pkgs.perl.withPackages (ps: with ps; [ json json-xs dbi ]);
  tools = pkgs.buildEnv {
    name = "shop-tools";
    paths = with pkgs; [ git curl jq sqlite openssl imagemagick graphviz ffmpeg gdb bash coreutils gnutar gzip xz zstd ];
  };
  services = pkgs.linkFarm "shop-services" (lib.mapAttrsToList (name: path: { inherit name path; }) {
    inherit (pkgs) nginx lighttpd redis postgresql nodejs openjdk erlang ruby nix wrk busybox distribution puma;
    sinatra = pkgs.ruby-sinatra;
  });
in
pkgs.runCommand "shop-1.0"
{
  inherit release;
  passthru = { inherit (pkgs) python3 nginx; };
  meta.mainProgram = "shop";
} ''
  mkdir -p "$out/bin" "$out/lib/shop" "$out/share/shop"
  for page in $(seq 1 200); do
    for line in $(seq 1 60); do
      echo "<li class=\"article\" id=\"p$page-$line\">Article $page.$line of the shop, in stock</li>"
    done >"$out/share/shop/page-$page.html"
  done
  echo "release = '$release'" >"$out/lib/shop/release.py"
  cat >"$out/bin/shop" <<END
  #!${pkgs.runtimeShell}
  export PATH=${tools}/bin:${perl}/bin SERVICES=${services}
  exec ${python}/bin/python3 -c 'import sys; sys.path.insert(0, "$out/lib/shop"); import release; print(release.release)'
  END
  sed -i 's/^  //' "$out/bin/shop"
  chmod +x "$out/bin/shop"
''
