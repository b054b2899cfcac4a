// One streaming call of Darkroom by the generated code, with images put together and checked.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <grpcpp/grpcpp.h>

#include "darkroom/v1/image_service.grpc.pb.h"
#include "darkroom/v1/model_service.grpc.pb.h"

using Event = darkroom::v1::GenerationEvent;

// Gets every event but chunks; `content` is the whole file of an `image` event and empty otherwise.
using OnEvent = std::function<void(const Event& event, const std::string& content)>;

// The calls of one server. Throws std::runtime_error when a stream does not carry what it announced.
class Server {
 public:
  explicit Server(const std::string& address);

  grpc::Status generate(grpc::ClientContext& context, const darkroom::v1::GenerateRequest& request,
                        const OnEvent& on_event);
  grpc::Status fill(grpc::ClientContext& context, const darkroom::v1::FillRequest& request,
                    const OnEvent& on_event);
  // Adds every model of the server, page by page.
  grpc::Status list_models(std::chrono::system_clock::time_point deadline,
                           std::vector<darkroom::v1::Model>& models);
  grpc::Status get_model(grpc::ClientContext& context, const std::string& name,
                         darkroom::v1::Model& model);

 private:
  std::unique_ptr<darkroom::v1::ImageService::Stub> images_;
  std::unique_ptr<darkroom::v1::ModelService::Stub> models_;
};
