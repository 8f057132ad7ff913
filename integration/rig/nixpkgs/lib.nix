# The part of nixpkgs' lib that small projects use.
let
  lib = rec {
    fix = f: let x = f x; in x;
    inherit (builtins)
      attrNames attrValues concatStringsSep elem filter foldl' hasAttr head isAttrs isFunction isList isString length
      listToAttrs map mapAttrs replaceStrings tail toJSON fromJSON concatMap;
    id = x: x;
    optional = condition: x: if condition then [ x ] else [ ];
    optionals = condition: x: if condition then x else [ ];
    optionalString = condition: x: if condition then x else "";
    optionalAttrs = condition: x: if condition then x else { };
    concatMapStringsSep = sep: f: xs: concatStringsSep sep (map f xs);
    concatMapStrings = concatMapStringsSep "";
    concatStrings = concatStringsSep "";
    concatLists = builtins.concatLists;
    flatten = x: if isList x then concatMap flatten x else [ x ];
    unique = foldl' (all: x: if elem x all then all else all ++ [ x ]) [ ];
    nameValuePair = name: value: { inherit name value; };
    genAttrs = names: f: listToAttrs (map (name: nameValuePair name (f name)) names);
    filterAttrs = keep: set: listToAttrs (concatMap (name: optional (keep name set.${name}) (nameValuePair name set.${name})) (attrNames set));
    mapAttrsToList = f: set: map (name: f name set.${name}) (attrNames set);
    recurseIntoAttrs = set: set // { recurseForDerivations = true; };
    isDerivation = x: isAttrs x && x.type or null == "derivation";
    getOutput = output: pkg: if pkg ? outputSpecified && pkg.outputSpecified then pkg else pkg.${output} or pkg.out or pkg;
    getBin = getOutput "bin";
    getLib = getOutput "lib";
    getExe = pkg: "${getBin pkg}/bin/${pkg.meta.mainProgram or pkg.pname or (builtins.parseDrvName pkg.name).name}";
    getExe' = pkg: name: "${getBin pkg}/bin/${name}";
    makeSearchPath = folder: pkgs: concatMapStringsSep ":" (pkg: "${pkg}/${folder}") pkgs;
    makeBinPath = pkgs: makeSearchPath "bin" (map getBin pkgs);
    makeLibraryPath = pkgs: makeSearchPath "lib" (map getLib pkgs);
    hasPrefix = prefix: s: builtins.substring 0 (builtins.stringLength prefix) s == prefix;
    removePrefix = prefix: s: if hasPrefix prefix s
      then builtins.substring (builtins.stringLength prefix) (builtins.stringLength s) s else s;
    escapeShellArg = s: "'" + replaceStrings [ "'" ] [ "'\\''" ] (toString s) + "'";
    escapeShellArgs = concatMapStringsSep " " escapeShellArg;
    cleanSource = src: src;
    cleanSourceWith = { src, ... }: src;
    callPackageWith = scope: f: args:
      let
        function = if isFunction f then f else import f;
        wanted = builtins.functionArgs function;
        auto = builtins.intersectAttrs wanted scope;
      in makeOverridable function (auto // args);
    makeOverridable = f: args:
      let result = f args; in
      if isAttrs result then result // {
        override = new: makeOverridable f (args // (if isFunction new then new args else new));
      } else result;
    licenses = genAttrs [ "mit" "asl20" "bsd2" "bsd3" "gpl2Plus" "gpl3Plus" "isc" "publicDomain" "unfree" ]
      (name: { shortName = name; spdxId = name; free = name != "unfree"; });
    platforms = { linux = [ "x86_64-linux" "aarch64-linux" ]; unix = platforms.linux; all = platforms.linux; };
    maintainers = { };
    fakeSha256 = "0000000000000000000000000000000000000000000000000000";
    version = "0-debian";
    trivial = { inherit version; release = "0"; };
    strings = { inherit concatStringsSep concatMapStringsSep hasPrefix removePrefix escapeShellArg optionalString; };
    attrsets = { inherit filterAttrs genAttrs mapAttrsToList; };
  };
in lib
