#include "conformance.h"

#include <chrono>
#include <fstream>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <vector>

#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/json_util.h>

#include "call.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace {

using google::protobuf::ListValue;
using google::protobuf::Struct;
using google::protobuf::util::JsonStringToMessage;
using google::protobuf::util::MessageToJsonString;

// A port that nothing listens on.
constexpr char kNobody[] = "127.0.0.1:1";

// As gRPC writes them, by number.
constexpr const char* kCodes[] = {
    "OK",           "CANCELLED",           "UNKNOWN",       "INVALID_ARGUMENT",   "DEADLINE_EXCEEDED",
    "NOT_FOUND",    "ALREADY_EXISTS",      "PERMISSION_DENIED", "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION", "ABORTED",      "OUT_OF_RANGE",  "UNIMPLEMENTED",      "INTERNAL",
    "UNAVAILABLE",  "DATA_LOSS",           "UNAUTHENTICATED"};

const std::string& text(const Struct& object, const std::string& key) {
  static const std::string empty;
  const auto found = object.fields().find(key);
  return found == object.fields().end() ? empty : found->second.string_value();
}

std::string kind_of(const Event& event) {
  switch (event.event_case()) {
    case Event::kAccepted: return "accepted";
    case Event::kQueued: return "queued";
    case Event::kProgress: return "progress";
    case Event::kPreview: return "preview";
    case Event::kImage: return "image";
    case Event::kChunk: return "chunk";
    case Event::kCompleted: return "completed";
    case Event::EVENT_NOT_SET: return "unknown";
  }
  return "unknown";
}

Struct announced_of(const Event::Image& image) {
  Struct made;
  auto& fields = *made.mutable_fields();
  fields["image_index"].set_number_value(image.image_index());
  fields["seed"].set_string_value(std::to_string(image.seed()));
  fields["width_px"].set_number_value(image.width_px());
  fields["height_px"].set_number_value(image.height_px());
  fields["media_type"].set_string_value(image.media_type());
  return made;
}

Struct error_of(const grpc::Status& failed) {
  google::rpc::Status status;
  status.ParseFromString(failed.error_details());
  google::rpc::ErrorInfo info;
  google::rpc::BadRequest bad;
  google::rpc::RetryInfo retry;
  bool has_retry_delay = false;
  for (const auto& detail : status.details()) {
    detail.UnpackTo(&info);
    detail.UnpackTo(&bad);
    has_retry_delay |= detail.UnpackTo(&retry);
  }
  Struct made;
  auto& fields = *made.mutable_fields();
  fields["code"].set_string_value(kCodes[failed.error_code()]);
  fields["reason"].set_string_value(info.reason());
  fields["has_retry_delay"].set_bool_value(has_retry_delay);
  ListValue& names = *fields["fields"].mutable_list_value();
  for (const auto& violation : bad.field_violations()) {
    names.add_values()->set_string_value(violation.field());
  }
  return made;
}

template <typename Request>
Request request_of(const Struct& example) {
  std::string json;
  if (!MessageToJsonString(example.fields().at("request").struct_value(), &json).ok()) {
    throw std::runtime_error("a request cannot be written");
  }
  Request request;
  if (!JsonStringToMessage(json, &request).ok()) throw std::runtime_error("no request: " + json);
  return request;
}

Struct report_of(const Struct& example, const std::string& address, const std::string& stem) {
  Struct report;
  auto& fields = *report.mutable_fields();
  fields["case"].set_string_value(text(example, "name"));
  ListValue& events = *fields["events"].mutable_list_value();
  ListValue& warnings = *fields["warnings"].mutable_list_value();
  ListValue& images = *fields["images"].mutable_list_value();
  ListValue& models = *fields["models"].mutable_list_value();

  grpc::ClientContext context;
  const auto timeout = example.fields().find("timeout_s");
  const double timeout_s = timeout == example.fields().end() ? 60 : timeout->second.number_value();
  const auto deadline = std::chrono::system_clock::now() +
                        std::chrono::milliseconds(static_cast<int>(timeout_s * 1000));
  context.set_deadline(deadline);
  const auto on_event = [&](const Event& event, const std::string& content) {
    const std::string kind = kind_of(event);
    events.add_values()->set_string_value(kind);
    for (const auto& warning : event.accepted().warnings()) {
      warnings.add_values()->set_string_value(warning.reason() + " " + warning.field());
    }
    if (event.has_image()) {
      *images.add_values()->mutable_struct_value() = announced_of(event.image());
      std::ofstream(stem + "-" + std::to_string(event.image().image_index()), std::ios::binary)
          << content;
    }
    if (kind == text(example, "cancel_after")) context.TryCancel();
  };
  Server server(text(example, "server") == "none" ? kNobody : address);
  const std::string& method = text(example, "method");
  grpc::Status status;
  std::vector<darkroom::v1::Model> listed;
  if (method == "ListModels") {
    status = server.list_models(deadline, listed);
  } else if (method == "GetModel") {
    const auto request = request_of<darkroom::v1::GetModelRequest>(example);
    status = server.get_model(context, request.name(), listed.emplace_back());
  } else if (method == "Fill") {
    status = server.fill(context, request_of<darkroom::v1::FillRequest>(example), on_event);
  } else {
    status = server.generate(context, request_of<darkroom::v1::GenerateRequest>(example), on_event);
  }
  if (status.ok()) {
    for (const auto& model : listed) models.add_values()->set_string_value(model.name());
  }
  const bool cancelled = status.error_code() == grpc::StatusCode::CANCELLED;
  fields["cancelled"].set_bool_value(cancelled);
  if (!status.ok() && !cancelled) {
    *fields["error"].mutable_struct_value() = error_of(status);
  }
  return report;
}

}  // namespace

void conformance(const std::string& address, const std::string& file, const std::string& folder) {
  std::stringstream content;
  content << std::ifstream(file).rdbuf();
  Struct all;
  if (!JsonStringToMessage(content.str(), &all).ok()) throw std::runtime_error("no cases: " + file);
  const ListValue& cases = all.fields().at("cases").list_value();
  for (int index = 0; index < cases.values_size(); ++index) {
    const Struct report = report_of(cases.values(index).struct_value(), address,
                                    folder + "/" + std::to_string(index));
    std::string line;
    if (!MessageToJsonString(report, &line).ok()) throw std::runtime_error("no report");
    std::cout << line << std::endl;
  }
}
