{ stdenv, makeWrapper, jdk_headless, jre_headless }:

stdenv.mkDerivation {
  pname = "java-web";
  version = "1.0";
  src = ./.;
  nativeBuildInputs = [ makeWrapper jdk_headless ];

  # javac by its module, which each JDK has.
  buildPhase = ''
    java --module jdk.compiler/com.sun.tools.javac.Main -encoding UTF-8 -d classes src/org/example/*.java
  '';

  installPhase = ''
    mkdir -p "$out/bin" "$out/share/java-web"
    cp -r classes "$out/share/java-web"
    makeWrapper ${jre_headless}/bin/java "$out/bin/java-web" \
      --add-flags "-XX:+ExitOnOutOfMemoryError -cp $out/share/java-web/classes org.example.Server"
  '';

  meta.mainProgram = "java-web";
}
