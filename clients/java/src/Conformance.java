import com.google.gson.Gson;
import com.google.gson.JsonArray;
import com.google.gson.JsonElement;
import com.google.gson.JsonObject;
import com.google.gson.JsonParser;
import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.util.JsonFormat;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import darkroom.v1.FillRequest;
import darkroom.v1.GenerateRequest;
import darkroom.v1.GenerationEvent;
import darkroom.v1.GetModelRequest;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Locale;

/** The cases of clients/conformance. */
final class Conformance {
  /** A port that nothing listens on. */
  private static final String NOBODY = "127.0.0.1:1";

  private final JsonObject example;
  private final String stem;
  private final JsonArray events = new JsonArray();
  private final JsonArray warnings = new JsonArray();
  private final JsonArray images = new JsonArray();
  private final JsonArray models = new JsonArray();

  private Conformance(JsonObject example, String stem) {
    this.example = example;
    this.stem = stem;
  }

  /** Runs every case against a server and prints its report; images go to `folder`. */
  static void run(String address, Path file, Path folder) throws IOException {
    JsonArray cases =
        JsonParser.parseString(Files.readString(file)).getAsJsonObject().getAsJsonArray("cases");
    for (int index = 0; index < cases.size(); index++) {
      JsonObject example = cases.get(index).getAsJsonObject();
      String stem = folder.resolve(String.valueOf(index)).toString();
      System.out.println(new Gson().toJson(new Conformance(example, stem).report(address)));
    }
  }

  private JsonObject report(String address) throws IOException {
    JsonObject report = new JsonObject();
    report.add("case", example.get("name"));
    report.add("events", events);
    report.add("warnings", warnings);
    report.add("images", images);
    report.add("models", models);
    boolean cancelled = false;
    try {
      call(example.has("server") ? NOBODY : address);
    } catch (StatusRuntimeException failed) {
      cancelled = failed.getStatus().getCode() == Status.Code.CANCELLED;
      if (!cancelled) {
        report.add("error", errorOf(failed));
      }
    }
    report.addProperty("cancelled", cancelled);
    return report;
  }

  private void call(String address) throws IOException {
    String request = example.get("request").toString();
    double timeoutS = example.has("timeout_s") ? example.get("timeout_s").getAsDouble() : 60;
    try (Server server = new Server(address)) {
      switch (example.get("method").getAsString()) {
        case "ListModels":
          server.listModels(timeoutS).forEach(model -> models.add(model.getName()));
          break;
        case "GetModel":
          GetModelRequest.Builder named = GetModelRequest.newBuilder();
          JsonFormat.parser().merge(request, named);
          models.add(server.getModel(named.getName(), timeoutS).getName());
          break;
        case "Fill":
          FillRequest.Builder fill = FillRequest.newBuilder();
          JsonFormat.parser().merge(request, fill);
          server.fill(fill.build(), timeoutS, this::take);
          break;
        default:
          GenerateRequest.Builder generate = GenerateRequest.newBuilder();
          JsonFormat.parser().merge(request, generate);
          server.generate(generate.build(), timeoutS, this::take);
      }
    }
  }

  private boolean take(GenerationEvent event, byte[] content) throws IOException {
    String kind = event.getEventCase().name().toLowerCase(Locale.ROOT);
    events.add(kind);
    event
        .getAccepted()
        .getWarningsList()
        .forEach(warning -> warnings.add(warning.getReason() + " " + warning.getField()));
    if (event.hasImage()) {
      GenerationEvent.Image image = event.getImage();
      Files.write(Path.of(stem + "-" + image.getImageIndex()), content);
      JsonObject announced = new JsonObject();
      announced.addProperty("image_index", image.getImageIndex());
      announced.addProperty("seed", String.valueOf(image.getSeed()));
      announced.addProperty("width_px", image.getWidthPx());
      announced.addProperty("height_px", image.getHeightPx());
      announced.addProperty("media_type", image.getMediaType());
      images.add(announced);
    }
    JsonElement last = example.get("cancel_after");
    return last == null || !last.getAsString().equals(kind);
  }

  private static JsonObject errorOf(StatusRuntimeException failed)
      throws InvalidProtocolBufferException {
    String reason = "";
    boolean hasRetryDelay = false;
    JsonArray fields = new JsonArray();
    com.google.rpc.Status status = StatusProto.fromThrowable(failed);
    for (Any detail : status.getDetailsList()) {
      if (detail.is(ErrorInfo.class)) {
        reason = detail.unpack(ErrorInfo.class).getReason();
      } else if (detail.is(BadRequest.class)) {
        detail
            .unpack(BadRequest.class)
            .getFieldViolationsList()
            .forEach(violation -> fields.add(violation.getField()));
      } else if (detail.is(RetryInfo.class)) {
        hasRetryDelay = true;
      }
    }
    JsonObject error = new JsonObject();
    error.addProperty("code", failed.getStatus().getCode().name());
    error.addProperty("reason", reason);
    error.add("fields", fields);
    error.addProperty("has_retry_delay", hasRetryDelay);
    return error;
  }
}
