import darkroom.v1.GenerateRequest;
import io.grpc.StatusRuntimeException;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;

/**
 * Calls Darkroom by the generated code alone.
 *
 * <pre>
 * darkroom generate ADDRESS PROMPT OUT_FILE
 * darkroom conformance ADDRESS CASES OUT_FOLDER
 * </pre>
 */
public final class Darkroom {
  private Darkroom() {}

  public static void main(String[] arguments) throws IOException {
    String command = arguments.length == 4 ? arguments[0] : "";
    switch (command) {
      case "generate":
        generate(arguments[1], arguments[2], Path.of(arguments[3]));
        break;
      case "conformance":
        Conformance.run(arguments[1], Path.of(arguments[2]), Path.of(arguments[3]));
        break;
      default:
        System.err.println("generate ADDRESS PROMPT OUT_FILE, or conformance ADDRESS CASES OUT_FOLDER");
        System.exit(2);
    }
  }

  /** Draws one picture. */
  private static void generate(String address, String prompt, Path file) throws IOException {
    GenerateRequest request = GenerateRequest.newBuilder().setPrompt(prompt).setSeed(7).build();
    try (Server server = new Server(address)) {
      server.generate(
          request,
          300,
          (event, content) -> {
            if (event.hasProgress()) {
              var progress = event.getProgress();
              System.out.printf(
                  "%d of %d steps%n", progress.getCompletedStepCount(), progress.getTotalStepCount());
            }
            if (event.hasImage()) {
              Files.write(file, content);
            }
            return true;
          });
    } catch (StatusRuntimeException failed) {
      System.err.println(failed.getMessage());
      System.exit(1);
    }
  }
}
