# A program beside files that hide a reference: one in gzip and one in a jar, which are rewritten as a whole, one in a
# manual page, where nothing misses it, and one without /nix/store, which stands in the way of relocation.
{ pkgs ? import <nixpkgs> { } }:
pkgs.runCommand "blocked" { buildInputs = [ pkgs.openjdk ]; } ''
  mkdir -p $out/bin $out/lib $out/share/man/man1
  echo "${pkgs.bash}/bin/bash" >text
  gzip -n <text >$out/lib/text.gz
  echo ${builtins.baseNameOf pkgs.bash} >$out/lib/hashes
  gzip -n <text >$out/share/man/man1/greet.1.gz
  java -m jdk.jartool/sun.tools.jar.Main --create --file $out/lib/text.jar --date 2000-01-01T00:00:00Z text
  cat >$out/bin/greet <<EOF
  #!${pkgs.bash}/bin/bash
  read -r first <"\''${BASH_SOURCE%/bin/greet}/lib/text.gz"
  echo "greetings from \$BASH"
  EOF
  chmod +x $out/bin/greet
''
