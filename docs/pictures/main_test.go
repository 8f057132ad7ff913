package main

import (
	"os"
	"testing"
)

func TestThePicturesAreWhatThisProgramDraws(t *testing.T) {
	for name, picture := range pictures() {
		drawn, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if string(drawn) != picture.svg() {
			t.Errorf("%s is another: go run ./docs/pictures", name)
		}
	}
}
