# What the store paths of this stand-in need beyond the files of their Debian packages, in the way of nixpkgs: wrappers,
# and references where nixpkgs' own have them.
{ universe, groups }:
let
  common = import ./common-steps.nix { inherit universe groups; };
  bash = "${groups.bash}/bin/bash";
  tools = builtins.concatStringsSep ":" (map (name: "${groups.${name}}/bin") [ "coreutils" "sed" "grep" ]);
  # wrap PROGRAM NAME LINE...: bin/NAME runs PROGRAM with what the lines export.
  wrap = ''
    wrap() {
      local program=$1 name=$2
      shift 2
      { echo "#!${bash} -e"; printf '%s\n' "$@"; echo "exec $program \"\$@\""; } >"$out/bin/$name"
      chmod 555 "$out/bin/$name"
    }
  '';
in
common // {
  retarget = { };
  links = builtins.removeAttrs common.links [ "nodejs" ];
  posts = common.posts // {
    # A module that has the JDK's own path in a library, as all of nixpkgs' have.
    openjdk = common.posts.openjdk + ''
      PATH=$PATH:$out/bin
      home=$(readlink -f "$out/bin/java")
      home=''${home%/bin/java}
      mkdir module classes libraries
      cp "$home/lib/libjimage.so" libraries/libreplica.so
      chmod u+w libraries/libreplica.so
      printf '\0%s/lib\0' "$home" >>libraries/libreplica.so
      echo 'module replica { }' >module/module-info.java
      javac -d classes module/module-info.java
      jmod create --class-path classes --libs libraries --date 2000-01-01T00:00:00Z replica.jmod
      mv replica.jmod "$home/jmods/"
      rm -rf module classes libraries
    '';
    # As in the common steps, from more packages.
    nodejs = ''
      mkdir "$out/share/builtins"
      for module in "$out"/share/nodejs/* ${builtins.concatStringsSep " " (map (name: "${groups.${name}}/share/nodejs/*")
        (builtins.filter (name: builtins.match "node-.*" name != null) (builtins.attrNames groups)))}; do
        ln -sfn "$module" "$out/share/builtins/"
      done
      LC_ALL=C ${groups.sed}/bin/sed -i 's,/usr/share/nodejs/,/proc/self/fd/200/,g' "$out"/lib/*/libnode.so.*
      mv "$out/bin/node" "$out/bin/.node-wrapped"
      {
        echo "#!${bash}"
        echo "exec 200<$out/share/builtins"
        echo "exec $out/bin/.node-wrapped \"\$@\""
      } >"$out/bin/node"
      chmod 555 "$out/bin/node"
    '';
    php = wrap + ''
      modules=$(echo "$out"/lib/php/2*)
      { echo "extension_dir=$modules"
        for name in ctype tokenizer phar fileinfo; do
          if [ -f "$modules/$name.so" ]; then echo "extension=$name.so"; fi
        done
        if [ -f "$modules/opcache.so" ]; then echo "zend_extension=opcache.so"; fi
        echo "display_startup_errors=0" # Debian's PHP takes time zones from the system and misses them; nixpkgs' has its own
      } >"$out/lib/php.ini"
      program=$(echo "$out"/bin/php8.?)
      rm -f "$out/bin/php"
      wrap "$program -c $out/lib/php.ini" php
    '';
    guile = wrap + ''
      mv "$out/bin/guile" "$out/bin/.guile-wrapped" 2>/dev/null || mv "$out"/lib/*/guile/3.0/bin/guile "$out/bin/.guile-wrapped"
      rm -f "$out/bin/guile"
      wrap "$out/bin/.guile-wrapped" guile "export GUILE_SYSTEM_PATH=$out/share/guile/3.0 GUILE_AUTO_COMPILE=0" \
        "export GUILE_SYSTEM_COMPILED_PATH=$(echo "$out"/lib/*/guile/3.0/ccache)" \
        "export GCONV_PATH=$(echo ${groups.glibc}/lib/*/gconv)" # without it Guile aborts; nixpkgs' glibc has it built in
    '';
    sbcl = wrap + ''
      mv "$out/bin/sbcl" "$out/bin/.sbcl-wrapped"
      wrap "$out/bin/.sbcl-wrapped" sbcl "export SBCL_HOME=$out/lib/sbcl"
    '';
    elixir = wrap + ''
      for name in elixir elixirc; do
        rm -f "$out/bin/$name"
        wrap "$out/lib/elixir/bin/$name" "$name" "export PATH=${groups.erlang}/bin:${tools}\''${PATH:+:\$PATH}"
      done
    '';
    R = wrap + ''
      rm -f "$out/bin/R"
      ${groups.sed}/bin/sed -i 's,^SED=/bin/sed,SED=${groups.sed}/bin/sed,' "$out/lib/R/bin/R"
      ln -sf Renviron.ucf "$out/lib/R/etc/Renviron"
      rm -f "$out/etc/R/ldpaths"
      echo 'export LD_LIBRARY_PATH=$R_HOME/lib' >"$out/etc/R/ldpaths"
      wrap "$out/lib/R/bin/R" R "export PATH=${tools}\''${PATH:+:\$PATH}" \
        "export GCONV_PATH=$(echo ${groups.glibc}/lib/*/gconv)" # for Latin 1
      # Sys.which has the path of a program in its code, which is in the base package's database.
      { echo "#!${bash}"; echo 'for name; do type -P -- "$name"; done'; } >"$out/lib/R/bin/which"
      chmod 555 "$out/lib/R/bin/which"
      chmod u+w "$out"/lib/R/library/base/R/base.rd?
      "$out/bin/R" --vanilla --no-echo -e "
        file <- '$out/lib/R/library/base/R/base'
        index <- readRDS(paste0(file, '.rdx'))
        code <- gsub('/usr/bin/which', '$out/lib/R/bin/which', deparse(Sys.which), fixed = TRUE)
        which <- eval(parse(text = code), .BaseNamespaceEnv)
        environment(which) <- .BaseNamespaceEnv
        index[['variables']][['Sys.which']] <-
          .Internal(lazyLoadDBinsertValue(which, paste0(file, '.rdb'), FALSE, as.integer(index[['compressed']]), function(x) NULL))
        saveRDS(index, paste0(file, '.rdx'))"
      chmod a-w "$out"/lib/R/library/base/R/base.rd?
    '';
  };
}
