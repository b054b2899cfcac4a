import darkroom.v1.FillRequest;
import darkroom.v1.GenerateRequest;
import darkroom.v1.GenerationEvent;
import darkroom.v1.GetModelRequest;
import darkroom.v1.ImageServiceGrpc;
import darkroom.v1.ListModelsRequest;
import darkroom.v1.ListModelsResponse;
import darkroom.v1.Model;
import darkroom.v1.ModelServiceGrpc;
import io.grpc.Context;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.function.Function;

/** The calls of one server, with images put together and checked. */
final class Server implements AutoCloseable {
  /** Gets every event but chunks; `content` is the whole file of an image, and empty otherwise. */
  interface OnEvent {
    /** Whether the call is to go on; otherwise it is cancelled. */
    boolean take(GenerationEvent event, byte[] content) throws IOException;
  }

  private final ManagedChannel channel;

  Server(String address) {
    channel = ManagedChannelBuilder.forTarget(address).usePlaintext().build();
  }

  @Override
  public void close() {
    channel.shutdownNow();
  }

  /**
   * The events of one Generate. Throws StatusRuntimeException when the service refuses or fails, and
   * IOException when the stream does not carry what it announced.
   */
  void generate(GenerateRequest request, double timeoutS, OnEvent onEvent) throws IOException {
    read(images(timeoutS)::generate, request, response -> response.getEvent(), onEvent);
  }

  /** The events of one Fill; otherwise as generate. */
  void fill(FillRequest request, double timeoutS, OnEvent onEvent) throws IOException {
    read(images(timeoutS)::fill, request, response -> response.getEvent(), onEvent);
  }

  /** Every model of the server, page by page. */
  List<Model> listModels(double timeoutS) {
    ModelServiceGrpc.ModelServiceBlockingStub stub = models(timeoutS);
    List<Model> models = new ArrayList<>();
    String token = "";
    do {
      ListModelsResponse page =
          stub.listModels(ListModelsRequest.newBuilder().setPageToken(token).build());
      models.addAll(page.getModelsList());
      token = page.getNextPageToken();
    } while (!token.isEmpty());
    return models;
  }

  /** One model by resource name, hub id or alias. */
  Model getModel(String name, double timeoutS) {
    return models(timeoutS).getModel(GetModelRequest.newBuilder().setName(name).build()).getModel();
  }

  private ImageServiceGrpc.ImageServiceBlockingStub images(double timeoutS) {
    return ImageServiceGrpc.newBlockingStub(channel)
        .withDeadlineAfter((long) (timeoutS * 1000), TimeUnit.MILLISECONDS);
  }

  private ModelServiceGrpc.ModelServiceBlockingStub models(double timeoutS) {
    return ModelServiceGrpc.newBlockingStub(channel)
        .withDeadlineAfter((long) (timeoutS * 1000), TimeUnit.MILLISECONDS);
  }

  private static <Q, R> void read(
      Function<Q, Iterator<R>> method, Q request, Function<R, GenerationEvent> eventOf, OnEvent onEvent)
      throws IOException {
    Context.CancellableContext context = Context.current().withCancellation();
    Context before = context.attach();
    try {
      Iterator<R> responses = method.apply(request);
      GenerationEvent announced = null;
      boolean completed = false;
      ByteArrayOutputStream content = new ByteArrayOutputStream();
      while (responses.hasNext()) {
        GenerationEvent event = eventOf.apply(responses.next());
        boolean goOn = true;
        switch (event.getEventCase()) {
          case EVENT_NOT_SET: // one that this program does not know
            break;
          case IMAGE:
            requireWhole(announced);
            announced = event;
            content.reset();
            break;
          case CHUNK:
            append(event.getChunk(), announced, content);
            break;
          default:
            completed = event.hasCompleted();
            goOn = onEvent.take(event, new byte[0]);
        }
        if (announced != null && content.size() >= announced.getImage().getSizeBytes()) {
          check(announced.getImage(), content.toByteArray());
          goOn = onEvent.take(announced, content.toByteArray());
          announced = null;
        }
        if (!goOn) {
          context.cancel(null);
        }
      }
      requireWhole(announced);
      if (!completed) {
        throw new IOException("the stream ended early");
      }
    } finally {
      context.cancel(null);
      context.detach(before);
    }
  }

  private static void append(
      GenerationEvent.Chunk chunk, GenerationEvent announced, ByteArrayOutputStream content)
      throws IOException {
    if (announced == null || chunk.getImageIndex() != announced.getImage().getImageIndex()) {
      throw new IOException("bytes of an image that was not announced");
    }
    if (chunk.getOffsetBytes() != content.size()) {
      throw new IOException("bytes are missing or doubled");
    }
    chunk.getContent().writeTo(content);
  }

  private static void requireWhole(GenerationEvent announced) throws IOException {
    if (announced != null) {
      throw new IOException("an image has fewer bytes than announced");
    }
  }

  private static void check(GenerationEvent.Image image, byte[] content) throws IOException {
    // A content filter may withhold an image: there is nothing to check then.
    if (image.getFinishReason() == GenerationEvent.FinishReason.FINISH_REASON_CONTENT_FILTERED) {
      return;
    }
    try {
      byte[] digest = MessageDigest.getInstance("SHA-256").digest(content);
      if (!MessageDigest.isEqual(digest, image.getSha256().toByteArray())) {
        throw new IOException("an image does not match its SHA-256");
      }
    } catch (NoSuchAlgorithmException impossible) {
      throw new AssertionError(impossible);
    }
  }
}
