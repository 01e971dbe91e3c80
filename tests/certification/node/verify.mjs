// Verifies a release's certificate with the W3C reference libraries, offline: node verify.mjs RELEASE
import fs from 'node:fs';
import path from 'node:path';
import * as vc from '@digitalbazaar/vc';
import {DataIntegrityProof} from '@digitalbazaar/data-integrity';
import {createVerifyCryptosuite} from '@digitalbazaar/eddsa-jcs-2022-cryptosuite';
import {securityLoader} from '@digitalbazaar/security-document-loader';
import {checkStatus} from '@digitalbazaar/vc-bitstring-status-list';

const release = process.argv[2];
const read = name => JSON.parse(fs.readFileSync(path.join(release, name), 'utf8'));
const loader = securityLoader();
for(const [url, file] of Object.entries(read('contexts/index.json'))) {
  loader.addStatic(url, read(path.join('contexts', file)));
}
const status = read('status.json');
loader.addStatic(status.id, status);
// A did:web's document, which an issuer publishes at its own address, lies in the release too.
if(fs.existsSync(path.join(release, 'did.json'))) {
  const did = read('did.json');
  loader.addStatic(did.id, did);
  for(const method of did.verificationMethod) {
    loader.addStatic(method.id, {'@context': 'https://w3id.org/security/multikey/v1', ...method});
  }
}
const documentLoader = loader.build();
const suite = new DataIntegrityProof({cryptosuite: createVerifyCryptosuite()});
const result = await vc.verifyCredential({
  credential: read('certificate.json'), suite, documentLoader, checkStatus
});
if(!result.verified) {
  console.error(JSON.stringify(result.error ?? result, Object.getOwnPropertyNames(Error.prototype).concat(['errors','message','name','stack','details','cause']), 1).slice(0, 3000));
}
const revoked = (result.statusResult?.results ?? []).some(entry => entry.status);
console.log(JSON.stringify({verified: result.verified, revoked}));
process.exit(result.verified && !revoked ? 0 : 1);
