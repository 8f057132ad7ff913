# Programs of many kinds and a script that gives each a real task, as one closure.
{ pkgs ? import <nixpkgs> { } }:
let
  # A jar, compiled from source as any other.
  greeter = pkgs.runCommand "greeter" { buildInputs = [ pkgs.openjdk ]; } ''
    cp ${./Greeter.java} Greeter.java
    cp ${./greeting.txt} greeting.txt
    java -m jdk.compiler/com.sun.tools.javac.Main Greeter.java
    mkdir -p $out/share/java
    java -m jdk.jartool/sun.tools.jar.Main --create --file $out/share/java/greeter.jar --date 2000-01-01T00:00:00Z \
      --main-class Greeter Greeter.class greeting.txt
  '';
  modules = pkgs.runCommand "node-modules" { } ''
    mkdir -p $out/lib/node_modules/greeter
    cp ${./greeter.js} $out/lib/node_modules/greeter/index.js
  '';
in
pkgs.writeShellApplication {
  name = "tasks";
  runtimeInputs = [
    pkgs.bash pkgs.coreutils pkgs.gnugrep pkgs.gnused pkgs.git pkgs.nginx pkgs.redis pkgs.postgresql pkgs.openjdk pkgs.erlang
    pkgs.nodejs
    (pkgs.python3.withPackages (p: [ p.lxml ]))
    (pkgs.perl.withPackages (p: [ p.json-xs ]))
  ];
  text = ''
    export GREETER=${greeter}/share/java/greeter.jar NODE_PATH=${modules}/lib/node_modules
    ${builtins.readFile ./tasks.sh}
    ${builtins.readFile ../run-tasks.sh}
  '';
}
