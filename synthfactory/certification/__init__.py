"""What vouches: policies, manifests, certificates, keys, and the verifier."""

from __future__ import annotations

from synthfactory.certification.attestations import Signers as Signers
from synthfactory.certification.credential import check_evaluator as check_evaluator
from synthfactory.certification.credential import issue_certificate as issue_certificate
from synthfactory.certification.keys import IssuerKey as IssuerKey
from synthfactory.certification.keys import development_key as development_key
from synthfactory.certification.keys import load_key as load_key
from synthfactory.certification.keys import new_key as new_key
from synthfactory.certification.manifest import build_manifest as build_manifest
from synthfactory.certification.manifest import list_parts as list_parts
from synthfactory.certification.policy import Policy as Policy
from synthfactory.certification.policy import Rule as Rule
from synthfactory.certification.policy import RuleOutcome as RuleOutcome
from synthfactory.certification.policy import Verdict as Verdict
from synthfactory.certification.policy import decide as decide
from synthfactory.certification.policy import load_policy as load_policy
from synthfactory.certification.status import set_status as set_status
from synthfactory.certification.verify import Check as Check
from synthfactory.certification.verify import Verification as Verification
from synthfactory.certification.verify import verify as verify
