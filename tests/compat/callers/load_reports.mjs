// ORCA's reports as @grpc/grpc-js has them: argv = grpc address, folder of the protos.
import { createRequire } from "node:module";
import { join } from "node:path";

const [address, protos] = process.argv.slice(2);
const require = createRequire(join(process.env.NODE_MODULES, "x.js"));
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");
const home = join(process.env.NODE_MODULES, "@grpc/grpc-js/proto");
const options = { keepCase: true, longs: Number, defaults: true };

const ours = grpc.loadPackageDefinition(
  loader.loadSync("darkroom/v1/image_service.proto", { ...options, includeDirs: [protos] }),
);
const theirs = grpc.loadPackageDefinition(
  loader.loadSync("xds/service/orca/v3/orca.proto", {
    ...options,
    includeDirs: [join(home, "xds"), join(home, "protoc-gen-validate")],
  }),
);
const plain = grpc.credentials.createInsecure();
const OpenRca = theirs.xds.service.orca.v3.OpenRcaService;
const readReport = OpenRca.service.StreamCoreMetrics.responseDeserialize;

const trailers = await new Promise((done, failed) => {
  const client = new ours.darkroom.v1.ImageService(address, plain);
  const call = client.Generate({ prompt: "a red circle", seed: 7 });
  call.on("data", () => {});
  call.on("error", failed);
  call.on("status", (status) => done(status.metadata));
});
const [content] = trailers.get("endpoint-load-metrics-bin");
const beside = await new Promise((done, failed) => {
  const stream = new OpenRca(address, plain).StreamCoreMetrics({ report_interval: { seconds: 1 } });
  const came = [];
  stream.on("error", (error) => (came.length < 2 ? failed(error) : undefined));
  stream.on("data", (report) => {
    came.push(report);
    if (came.length === 2) {
      stream.cancel();
      done(came);
    }
  });
});
console.log(JSON.stringify({ call: readReport(content), beside }));
process.exit(0);
