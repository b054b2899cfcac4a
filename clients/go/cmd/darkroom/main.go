// Command darkroom shows the package's use:
//
//	darkroom generate ADDRESS PROMPT OUT_FILE
//	darkroom conformance ADDRESS CASES OUT_FOLDER
package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"google.golang.org/protobuf/proto"

	"darkroom"
	"darkroom/darkroomv1"
)

func main() {
	commands := map[string]func(address, what, out string) error{
		"generate":    generate,
		"conformance": conformance,
	}
	if len(os.Args) != 5 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "darkroom generate ADDRESS PROMPT OUT_FILE\ndarkroom conformance ADDRESS CASES OUT_FOLDER")
		os.Exit(2)
	}
	if err := commands[os.Args[1]](os.Args[2], os.Args[3], os.Args[4]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// generate draws one picture.
func generate(address, prompt, file string) error {
	client, err := darkroom.Dial(address, darkroom.Options{})
	if err != nil {
		return err
	}
	defer client.Close()
	request := &darkroomv1.GenerateRequest{Prompt: prompt, Seed: proto.Int64(7)}
	stream := client.Generate(context.Background(), request)
	defer stream.Close()
	for {
		event, err := stream.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch event := event.(type) {
		case *darkroom.Progress:
			fmt.Println(event.CompletedStepCount, "of", event.TotalStepCount, "steps")
		case *darkroom.Image:
			if err := write(file, event); err != nil {
				return err
			}
		}
	}
}

func write(name string, content io.Reader) error {
	file, err := os.Create(name)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := io.Copy(file, content); err != nil {
		return err
	}
	return file.Close()
}
