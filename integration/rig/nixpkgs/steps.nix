# What some store paths need beyond the files of their Debian packages.
{ universe, groups }:
let
  compile = levels: ''
    ${groups.python3 or "$out"}/bin/python3 -m compileall -q ${levels} "$out/lib" >/dev/null || true
  '';
in
{
  links = {
    bash = { "bin/sh" = "bash"; };
    python3 = { "bin/python" = "python3"; };
    nodejs = {
      "u" = "share/nodejs/undici/undici-fetch.js";
      "a" = "share/nodejs/acorn/dist/acorn.js";
      "w" = "share/nodejs/acorn-walk/dist/walk.js";
    };
  };
  retarget.nodejs."lib/*/libnode.so.*" = {
    "/usr/share/nodejs/undici/undici-fetch.js" = "u";
    "/usr/share/nodejs/acorn/dist/acorn.js" = "a";
    "/usr/share/nodejs/acorn-walk/dist/walk.js" = "w";
  };
  posts = {
    # All of the standard library at three levels, checked by hash, as nixpkgs compiles it.
    python3 = ''
      for name in "$out"/bin/python3.??; do ln -sf "''${name##*/}" "$out/bin/python3"; done
      "$out/bin/python3" -m compileall -q -o 0 -o 1 -o 2 "$out/lib" >/dev/null || true
    '';
    # Debian keeps its data apart, at a place that is written into the modules.
    python3-matplotlib = ''
      ${groups.python3}/bin/python3 - "$out/${universe.site}/matplotlib" ${groups.python-matplotlib-data} <<'EOF'
      import pathlib, sys
      for path in pathlib.Path(sys.argv[1]).glob("*.py"):
          text = path.read_text(encoding="utf-8")
          data = sys.argv[2] + "/share/matplotlib"
          mended = text.replace("/usr/share/matplotlib", data).replace("/etc/matplotlibrc", data + "/mpl-data/matplotlibrc")
          if mended != text:
              path.write_text(mended, encoding="utf-8")
      EOF
      ${compile "-o 0"}
    '';
    perl = ''
      mv "$out/bin/perl" "$out/bin/.perl-wrapped"
      paths=
      for folder in "$out"/lib/*/perl/5.* "$out"/share/perl/5.* "$out"/lib/*/perl-base "$out"/lib/*/perl5/5.* "$out"/share/perl5; do
        if [ -d "$folder" ] && [ ! -L "$folder" ]; then paths=$paths''${paths:+:}$folder; fi
      done
      {
        echo "#!${groups.bash}/bin/bash"
        echo "PERL5LIB=\''${PERL5LIB:+\$PERL5LIB:}$paths exec -a \"\$0\" $out/bin/.perl-wrapped \"\$@\""
      } >"$out/bin/perl"
      chmod 555 "$out/bin/perl"
    '';
    lighttpd = ''
      mv "$out/bin/lighttpd" "$out/bin/.lighttpd-wrapped"
      {
        echo "#!${groups.bash}/bin/bash"
        echo "exec $out/bin/.lighttpd-wrapped -m $out/lib/lighttpd \"\$@\""
      } >"$out/bin/lighttpd"
      chmod 555 "$out/bin/lighttpd"
    '';
    ruby = ''
      program=$(readlink -f "$out/bin/ruby")
      mv "$program" "$out/bin/.ruby-wrapped"
      version=''${program##*/ruby}
      paths=
      for folder in "$out/lib/ruby/vendor_ruby" "$out"/lib/*/ruby/vendor_ruby/*.0 "$out"/lib/ruby/*.0 "$out"/lib/*/ruby/*.0; do
        if [ -d "$folder" ]; then paths=$paths''${paths:+:}$folder; fi
      done
      gems=$out/share/rubygems-integration/all:$out/share/rubygems-integration/$version.0:$out/lib/ruby/gems/$version.0
      {
        echo "#!${groups.bash}/bin/bash"
        echo "export RUBYLIB=\''${RUBYLIB:+\$RUBYLIB:}$paths GEM_PATH=\''${GEM_PATH:+\$GEM_PATH:}$gems"
        echo "exec $out/bin/.ruby-wrapped \"\$@\""
      } >"$program"
      chmod 555 "$program"
    '';
    git = ''
      mv "$out/bin/git" "$out/bin/.git-wrapped"
      {
        echo "#!${groups.bash}/bin/bash"
        echo "export GIT_EXEC_PATH=\''${GIT_EXEC_PATH-$out/lib/git-core} GIT_TEMPLATE_DIR=\''${GIT_TEMPLATE_DIR-$out/share/git-core/templates}"
        echo "exec -a \"\$0\" $out/bin/.git-wrapped \"\$@\""
      } >"$out/bin/git"
      chmod 555 "$out/bin/git"
      ln -sf ../../bin/git "$out/lib/git-core/git"
    '';
    postgresql = ''
      mkdir -p "$out/bin"
      for program in "$out"/lib/postgresql/*/bin/*; do
        [ -e "$out/bin/''${program##*/}" ] || ln -s "$program" "$out/bin/"
      done
    '';
    openjdk = ''
      mkdir -p "$out/bin"
      for program in "$out"/lib/jvm/java-*-openjdk-*/bin/*; do
        ln -sf "$program" "$out/bin/"
      done
    '';
    # Debian's Node.js reads parts of itself from /usr/share/nodejs. A descriptor's name is as long as that, and the
    # wrapper opens the descriptor.
    nodejs = ''
      mkdir "$out/share/builtins"
      for module in "$out"/share/nodejs/* ${groups.node-minimatch}/share/nodejs/*; do
        ln -sf "$module" "$out/share/builtins/"
      done
      LC_ALL=C ${groups.sed}/bin/sed -i 's,/usr/share/nodejs/,/proc/self/fd/200/,g' "$out"/lib/*/libnode.so.*
      mv "$out/bin/node" "$out/bin/.node-wrapped"
      {
        echo "#!${groups.bash}/bin/bash"
        echo "exec 200<$out/share/builtins"
        echo "exec $out/bin/.node-wrapped \"\$@\""
      } >"$out/bin/node"
      chmod 555 "$out/bin/node"
    '';
    erlang = ''
      mkdir -p "$out/bin"
      for program in erl erlc escript epmd; do ln -sf "$out/lib/erlang/bin/$program" "$out/bin/$program"; done
    '';
  };
  # Modules of Python are compiled where they are.
  post = id: group:
    if builtins.any (name: builtins.match "python3-.*" name != null || name == "gunicorn") group.debs
      && builtins.elem "python3" group.inputs
    then compile "-o 0"
    else "";
  mainPrograms = {
    python3 = "python3"; nodejs = "node"; openjdk = "java"; erlang = "erl"; redis = "redis-server";
    postgresql = "postgres"; grep = "grep";
  };
}
