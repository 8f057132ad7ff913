# Apps as nixpkgs shapes them: a Python environment that is a farm of links to its modules, a Node.js app with three hundred
# packages, and a program that finds its libraries by a long RPATH. Each starts behind a wrapper, gives its first answer and
# ends. The Node.js app is there twice: with its packages in its own node_modules, as buildNpmPackage installs it, and with
# those of another store path that NODE_PATH names, as node2nix did.
{ pkgs ? import <nixpkgs> { } }:
let
  python = pkgs.python3.withPackages (ps: with ps; [
    flask waitress gunicorn requests numpy pyyaml lxml cryptography sqlalchemy psycopg2 redis django pillow pandas scipy
    matplotlib markdown pygments scikit-learn sympy networkx h5py aiohttp
  ]);
  modules = pkgs.runCommand "node-modules" { } ''
    for n in $(seq 300); do
      at=$out/lib/node_modules/shop-$n
      mkdir -p $at/lib
      echo '{"name": "shop-'$n'", "version": "1.0.0", "main": "lib/index.js"}' >$at/package.json
      echo "const own = require('./own'); exports.sum = $n < 300 ? require('shop-$((n + 1))').sum + own : own" >$at/lib/index.js
      echo "module.exports = $n" >$at/lib/own.js
    done
  '';
  shop = pkgs.runCommand "shop-1.0.0" { } ''
    at=$out/lib/node_modules/shop
    mkdir -p $at
    cp ${./starts_app.js} $at/index.js
    cp -r ${modules}/lib/node_modules $at/node_modules
    echo '{"name": "shop", "version": "1.0.0", "main": "index.js"}' >$at/package.json
  '';
in
pkgs.symlinkJoin {
  name = "starts";
  paths = [
    (pkgs.writeShellScriptBin "start-python" "exec ${python}/bin/python3 ${./starts_app.py}")
    (pkgs.writeShellScriptBin "start-node" "exec ${pkgs.nodejs}/bin/node ${shop}/lib/node_modules/shop/index.js")
    (pkgs.writeShellScriptBin "start-node-path"
      "export NODE_PATH=${modules}/lib/node_modules\nexec ${pkgs.nodejs}/bin/node ${./starts_app.js}")
    (pkgs.writeShellScriptBin "start-libraries"
      "exec ${pkgs.ffmpeg}/bin/ffmpeg -loglevel error -f lavfi -i color=s=64x64 -frames:v 1 -f null -")
  ];
  passthru = { inherit python modules; };
}
