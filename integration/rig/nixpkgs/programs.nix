# The names that nixpkgs has for what is in Debian under another one, and the sets of language modules.
{ lib, debian, pkgs }:
let
  inherit (debian) of groups;
  inherit (pkgs.stdenv) mkDerivation;
  alias = to: lib.filterAttrs (name: value: groups ? ${value}) to;
  named = lib.mapAttrs (_: id: groups.${id}) (alias {
    gnugrep = "grep"; gnused = "sed"; gnutar = "tar"; xz = "xz-utils"; python3Minimal = "python3"; sqlite = "sqlite3";
    openjdk_headless = "openjdk"; jdk_headless = "openjdk"; jre_headless = "openjdk"; jre = "openjdk";
    jdk = "openjdk"; node = "nodejs"; perl5 = "perl"; distribution = "docker-registry"; ffmpeg-headless = "ffmpeg";
    zlib = "zlib1g"; libcap = "libcap2";
  });

  # Everything that a set of modules needs of its own language.
  closure = language: modules:
    let
      go = seen: todo:
        if todo == [ ] then seen
        else
          let id = builtins.head todo; rest = builtins.tail todo; in
          if id == language || builtins.elem id seen then go seen rest
          else go (seen ++ [ id ]) (rest ++ groups.${id}.group.propagate);
    in
    map (id: groups.${id}) (go [ ] (map (module: module.pname) modules));

  names = prefix: suffix: lib.filterAttrs (id: _: builtins.match "${prefix}.*${suffix}" id != null) groups;

  pythonNames = {
    pyyaml = "python3-yaml"; pillow = "python3-pil"; scikit-learn = "python3-sklearn"; gunicorn = "gunicorn";
    psycopg = "python3-psycopg2";
  };
  pythonModules = builtins.listToAttrs (lib.mapAttrsToList
    (id: value: { name = lib.removePrefix "python3-" id; inherit value; })
    (lib.filterAttrs (id: _: lib.hasPrefix "python3-" id) groups))
  // lib.mapAttrs (_: id: groups.${id}) (alias pythonNames);
  site = debian.site;
  withPackages = f:
    let modules = closure "python3" (f pythonModules); in
    mkDerivation {
      name = "python3-${groups.python3.version}-env";
      meta.mainProgram = "python3";
      passthru = { inherit modules; interpreter = "python3"; };
      buildCommand = ''
        mkdir -p "$out/bin" "$out/${site}"
        for module in ${toString modules}; do
          if [ -d "$module/${site}" ]; then joinTree "$module/${site}" "$out/${site}"; fi
        done
        for name in python python3 python3.${builtins.elemAt (builtins.splitVersion groups.python3.version) 1}; do
          makeWrapper ${groups.python3}/bin/$name "$out/bin/$name" --prefix PYTHONPATH : "$out/${site}" \
            --set PYTHONNOUSERSITE true
        done
        for module in ${toString modules}; do
          for program in "$module"/bin/*; do
            [ -f "$program" ] || continue
            makeWrapper "$program" "$out/bin/''${program##*/}" --prefix PYTHONPATH : "$out/${site}" \
              --set PYTHONNOUSERSITE true
          done
        done
      '';
    };
  python3 = groups.python3 // {
    inherit withPackages;
    pkgs = pythonModules;
    pythonVersion = lib.concatStringsSep "." (lib.filter lib.isString [
      (builtins.elemAt (builtins.splitVersion groups.python3.version) 0)
      (builtins.elemAt (builtins.splitVersion groups.python3.version) 1)
    ]);
    sitePackages = site;
    interpreter = "${groups.python3}/bin/python3";
    executable = "python3";
  };

  perlModules = builtins.listToAttrs (lib.mapAttrsToList
    (id: value: { name = builtins.head (builtins.match "lib(.*)-perl" id); inherit value; }) (names "lib" "-perl"));
  perl = groups.perl // {
    pkgs = perlModules;
    withPackages = f:
      let modules = closure "perl" (f perlModules); in
      mkDerivation {
        name = "perl-${groups.perl.version}-env";
        meta.mainProgram = "perl";
        buildCommand = ''
          paths=
          for folder in ${toString (map (m: "${m}/share/perl5 ${m}/lib/${debian.triplet}/perl5/*") modules)}; do
            if [ -d "$folder" ]; then paths=$paths''${paths:+:}$folder; fi
          done
          makeWrapper ${groups.perl}/bin/perl "$out/bin/perl" --prefix PERL5LIB : "$paths"
        '';
      };
  };
  rubyModules = builtins.listToAttrs (lib.mapAttrsToList
    (id: value: { name = lib.removePrefix "ruby-" id; inherit value; })
    (lib.filterAttrs (id: _: lib.hasPrefix "ruby-" id || id == "puma") groups));
  ruby = groups.ruby // {
    gems = rubyModules;
    withPackages = f:
      let modules = closure "ruby" (f rubyModules); in
      mkDerivation {
        name = "ruby-${groups.ruby.version}-env";
        meta.mainProgram = "ruby";
        buildCommand = ''
          gems= libraries=
          for module in ${toString modules}; do
            for folder in "$module"/share/rubygems-integration/* "$module"/lib/*/rubygems-integration/*; do
              if [ -d "$folder" ]; then gems=$gems''${gems:+:}$folder; fi
            done
            for folder in "$module"/lib/ruby/vendor_ruby "$module"/lib/${debian.triplet}/ruby/vendor_ruby/*; do
              if [ -d "$folder" ]; then libraries=$libraries''${libraries:+:}$folder; fi
            done
          done
          for program in ${groups.ruby}/bin/ruby $(printf '%s/bin/* ' ${toString modules}); do
            [ -f "$program" ] || continue
            makeWrapper "$program" "$out/bin/''${program##*/}" --prefix GEM_PATH : "$gems" --prefix RUBYLIB : "$libraries"
          done
        '';
      };
  };
in
named // {
  inherit python3 perl ruby;
  python = python3;
  python3Packages = pythonModules;
  perlPackages = perlModules;
}
